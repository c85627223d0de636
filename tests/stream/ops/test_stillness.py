"""A worker that decides nothing while something waits is noticed, whatever the cause."""

from __future__ import annotations

from stream.ops.stillness import PARTITION_STILL_S, SILENT_S, STILL_S, Stillness


class Clock:
    """Seconds that a test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_waiting_without_a_decision_is_noticed_and_a_decision_ends_it() -> None:
    clock = Clock()
    still = Stillness(clock)
    done = 0
    for _ in range(20):  # decisions come
        clock.now_s, done = clock.now_s + 1, done + 3
        assert still.of_all(500, done) is None
    clock.now_s += STILL_S - 1
    assert still.of_all(500, done) is None
    clock.now_s += 1
    assert still.of_all(507, done) == "507 transactions wait, and none has been decided for 5 s"
    assert still.of_all(507, done + 1) is None


def test_a_worker_without_work_is_not_still() -> None:
    clock = Clock()
    still = Stillness(clock)
    for _ in range(100):
        clock.now_s += 1
        assert still.of_all(0, 7) is None
    assert still.of_all(1, 7) is None, "the first record after an hour has just come"


def test_one_partition_that_stands_still_beside_others_is_noticed() -> None:
    clock = Clock()
    still = Stillness(clock)
    for second in range(int(PARTITION_STILL_S)):
        assert still.of_partitions({0: 9, 1: 40, 2: 0}, {0: second, 1: 7, 2: 5}) is None
        clock.now_s += 1
    said = still.of_partitions({0: 9, 1: 41, 2: 0}, {0: 99, 1: 7, 2: 5})
    assert said == "41 transactions wait in the partitions [1], and none was taken in for 30 s"
    assert still.of_partitions({0: 9}, {0: 100}) is None, "partition 1 is another worker's by now"
    assert still.of_partitions({0: 9, 1: 41}, {0: 101, 1: 7}) is None, "it has just come back"


def test_a_broker_that_answers_no_fetch_is_noticed() -> None:
    clock = Clock()
    still = Stillness(clock)
    for second in range(10):
        assert still.of_fetches({0: 1000 * second, 1: None if second < 3 else 1000 * second}) == []
        clock.now_s += 1
    clock.now_s += SILENT_S
    assert still.of_fetches({0: 9000, 1: 9500}) == [0]
    assert still.of_fetches({1: 9500}) == [], "a paused partition is not fetched"
