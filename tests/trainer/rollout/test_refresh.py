"""What a refresh goes on from, and which number it takes. The whole turn: tests/e2e/test_stream.py."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from panther_core.base.errors import BadInput, InvalidFile
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS, HOUR_MS, now_ms
from panther_core.data.events import ModelUpdate
from tests.fixtures_keys import make_keys
from tests.trainer.log.test_store import names, paid, write
from trainer.log.store import LogStore
from trainer.rollout import deploy, journal
from trainer.rollout import refresh as module
from trainer.rollout import turn as turn_module
from trainer.rollout.announce import folder_of
from trainer.rollout.journal import Ended, Turn
from trainer.rollout.refresh import _alone, _next_number, _turn, refresh_once
from trainer.rollout.turn import Refreshed, Run, Wanted, newest_days


def update(version: int, artifact: str = "gone") -> ModelUpdate:
    return ModelUpdate(name="panther", version=version, threshold=0.5, schema_fingerprint="x", artifact=artifact)


def test_it_goes_on_from_the_live_version_and_not_from_the_newest_folder(artifact_folder: Path, tmp_path: Path) -> None:
    """A trial with a high number, or a version that was rolled back from, is no base."""
    models = tmp_path  # a folder of its own: other tests look at what lies beside the artifact
    (models / "1").symlink_to(artifact_folder)
    (models / "900").mkdir()
    assert folder_of(update(1), models) == models / "1", "its announced path is on another machine"
    assert folder_of(update(1, str(artifact_folder)), models / "elsewhere") == artifact_folder
    with pytest.raises(BadInput, match="artifact of version 7"):
        folder_of(update(7, str(artifact_folder)), models)


def test_a_number_is_never_used_twice(tmp_path: Path) -> None:
    triton = tmp_path / "triton"
    for name in ("1", "2", "900", "not a version"):
        (tmp_path / name).mkdir()
    assert _next_number(tmp_path, triton, [update(1)]) == 901
    (tmp_path / "900").rmdir()
    history = [update(1), update(2), update(5), update(1)]  # 5 was rolled back from, and its folder is gone
    assert _next_number(tmp_path, triton, history) == 6
    (triton / "panther_score" / "40").mkdir(parents=True)  # a trial, loaded from elsewhere and not promoted yet
    assert _next_number(tmp_path, triton, history) == 41


def test_two_refreshes_never_run_together(tmp_path: Path) -> None:
    with _alone(tmp_path), pytest.raises(BadInput, match="no other refresh"), _alone(tmp_path):
        pass
    with _alone(tmp_path):
        pass


@pytest.fixture
def taken_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Versions that were unloaded; no server is asked."""
    out: list[int] = []
    monkeypatch.setattr(deploy, "unload", lambda _url, _repository, version, _key: out.append(version))
    return out


def turn_after(models: Path, *live: int) -> Turn:
    settings = PantherSettings(models_dir=str(models))
    return _turn(settings, models, [update(version) for version in live])


def test_a_turn_that_was_cut_off_is_gone_on_with(tmp_path: Path, taken_out: list[int]) -> None:
    assert turn_after(tmp_path, 1) == Turn(1, 2)
    (tmp_path / "2").mkdir()
    assert turn_after(tmp_path, 1) == Turn(1, 2), "its number is not used up"
    (tmp_path / "2" / "refresh.json").touch()
    assert turn_after(tmp_path, 1, 2) == Turn(1, 2), "it went live: its watch is gone on with"
    assert taken_out == []
    journal.finish(tmp_path)
    assert turn_after(tmp_path, 1, 2) == Turn(2, 3)


def test_a_turn_whose_version_somebody_has_promoted_by_hand_is_over(tmp_path: Path, taken_out: list[int]) -> None:
    """It was trained and not judged when its process ended: there is nothing to watch it by."""
    assert turn_after(tmp_path, 1) == Turn(1, 2)
    (tmp_path / "2").mkdir()
    assert turn_after(tmp_path, 1, 2) == Turn(2, 3)
    assert taken_out == []
    (ended,) = journal.ended_turns(tmp_path)
    assert (ended.challenger, ended.against) == (2, ["given up: version 2 is live by now"])


def test_a_turn_is_given_up_where_somebody_has_switched(tmp_path: Path, taken_out: list[int]) -> None:
    assert turn_after(tmp_path, 1) == Turn(1, 2)
    (tmp_path / "2").mkdir()
    assert turn_after(tmp_path, 1, 7) == Turn(7, 8), "it was trained to take the place of another version"
    assert taken_out == [2]


def test_a_turn_is_given_up_while_the_server_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happened is written down once, and the next turn begins."""

    def away(*_: object) -> None:
        raise deploy.DeployError("expected version 2 to be unloaded, got no answer")

    monkeypatch.setattr(deploy, "unload", away)
    assert turn_after(tmp_path, 1) == Turn(1, 2)
    (tmp_path / "2").mkdir()
    for _ in range(2):
        assert turn_after(tmp_path, 1, 7) == Turn(7, 8)
    (ended,) = journal.ended_turns(tmp_path)
    assert ended.against == [
        "given up: version 7 is live by now",
        "it was not unloaded: expected version 2 to be unloaded, got no answer",
    ]
    assert (ended.challenger, ended.promoted, ended.error) == (2, False, None)


def test_a_version_that_was_rolled_back_from_is_not_promoted_by_the_turn_that_was_cut_off(
    tmp_path: Path, taken_out: list[int]
) -> None:
    """It went live, the process was killed, and an operator went back: the nightly refresh begins anew."""
    assert turn_after(tmp_path, 1) == Turn(1, 2)
    (tmp_path / "2").mkdir()
    assert turn_after(tmp_path, 1, 2, 1) == Turn(1, 3)
    assert taken_out == [], "it was live, so users may be on it: `panther models retire` unloads it"
    (ended,) = journal.ended_turns(tmp_path)
    assert (ended.promoted, ended.rolled_back) == (True, True)


def test_a_turn_that_was_cut_off_while_it_took_its_version_back_says_why(tmp_path: Path, taken_out: list[int]) -> None:
    """The rollback was sent, and the process ended before it wrote down what it had done."""
    journal.begin(tmp_path, Turn(1, 2))
    back = msgspec.structs.replace(update(1), why="version 2 failed in the stream: too many alerts")
    _turn(PantherSettings(models_dir=str(tmp_path)), tmp_path, [update(1), update(2), back])
    (ended,) = journal.ended_turns(tmp_path)
    assert ended.rolled_back
    assert ended.against == ["given up: version 1 is live by now", back.why]


def test_a_challenger_that_fails_again_and_again_does_not_stand_in_the_way_for_ever(
    tmp_path: Path, taken_out: list[int]
) -> None:
    for _ in range(3):
        assert turn_after(tmp_path, 1) == Turn(1, 2)
        (tmp_path / "2").mkdir(exist_ok=True)
        journal.add(tmp_path, Ended(1, "by hand", 1, 2, error="the disk is full"))
    assert turn_after(tmp_path, 1) == Turn(1, 3)
    assert taken_out == [2]
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "refresh.json").touch()
    for _ in range(3):  # nor one that is live and whose watch fails
        assert turn_after(tmp_path, 1, 3) == Turn(1, 3)
        journal.add(tmp_path, Ended(1, "by hand", 1, 3, error="no broker", live=True))
    assert turn_after(tmp_path, 1, 3) == Turn(3, 4)
    assert taken_out == [2]


def test_a_broker_that_is_away_for_hours_does_not_end_the_watch_of_a_live_version(
    tmp_path: Path, taken_out: list[int]
) -> None:
    journal.begin(tmp_path, Turn(1, 2))
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "refresh.json").touch()
    for _ in range(2):  # errors of its training, days ago, say nothing of its watch
        journal.add(tmp_path, Ended(1, "by hand", 1, 2, error="the disk is full"))
    for hours in (5, 3, 1):
        ended_ms = now_ms() - hours * HOUR_MS
        journal.add(tmp_path, Ended(ended_ms, "every 6h", 1, 2, error="no broker", live=True))
    assert turn_after(tmp_path, 1, 2) == Turn(1, 2)
    assert taken_out == []


def test_the_page_of_turns_says_what_was_done_and_why(tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "refresh.html").touch()
    turns = [
        Ended(1, "every 6 h", 1, 2, against=["it does not beat the champion"]),
        Ended(2, "drift: <amount>", 1, 3, promoted=True, rolled_back=True, against=["too many alerts"]),
        Ended(3, "by hand", 1, 4, error="no broker"),
    ]
    for turn in turns:
        journal.add(tmp_path, turn)
    with (tmp_path / journal.TURNS).open("ab") as file:
        file.write(b'{"ended_ms": 4, "wh')  # a kill in the middle of a line
    assert journal.ended_turns(tmp_path) == turns
    after = Ended(4, "by hand", 1, 5)
    journal.add(tmp_path, after)
    assert journal.ended_turns(tmp_path) == [*turns, after], "the line that was cut off costs no other"
    page = (tmp_path / journal.PAGE).read_text()
    for words in ("refused", "taken back", "failed", "too many alerts", "drift: &lt;amount&gt;", "2/refresh.html"):
        assert words in page
    assert "3/refresh.html" not in page


def test_labels_that_come_after_their_payments_are_forgotten_are_refused_at_once(tmp_path: Path) -> None:
    settings = PantherSettings(models_dir=str(tmp_path), retention_days=5)
    with pytest.raises(BadInput, match="PANTHER_RETENTION_DAYS of 5"):
        refresh_once(KafkaSettings(), settings, tmp_path, Wanted(7 * DAY_MS))


def test_a_key_that_cannot_sign_is_refused_before_anything_else(tmp_path: Path) -> None:
    """No broker is asked, nothing is trained."""
    keys, others = make_keys(tmp_path / "keys"), make_keys(tmp_path / "others")
    settings = PantherSettings(models_dir=str(tmp_path / "models"), models_key=keys.public)
    with pytest.raises(BadInput, match="expected --sign-key"):
        refresh_once(KafkaSettings(), settings, tmp_path, Wanted(DAY_MS))
    for key, said in ((others.private, "got that of"), (tmp_path / "gone", "No such file")):
        with pytest.raises(InvalidFile, match=said):
            refresh_once(KafkaSettings(), settings, tmp_path, Wanted(DAY_MS, sign_key=key))
    assert not (tmp_path / "models").exists()


def test_a_turn_that_was_cut_off_behind_its_switch_asks_what_the_workers_have_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it waited for their words: else a version that all of them refuse would stay live."""
    begun = Turn(1, 2)
    journal.begin(tmp_path, begun)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "refresh.json").touch()

    async def told(_: KafkaSettings) -> list[ModelUpdate]:
        return [update(1), update(2)]

    def watched(run: Run, refused: list[str]) -> Refreshed:
        assert (run.turn, refused) == (begun, ["no such folder"])
        return Refreshed(1, 2, True, [], 0, 0, 0.5, [], {}, rolled_back=True)

    monkeypatch.setattr(module, "updates", told)
    monkeypatch.setattr(module, "refused_by", lambda _kafka, _settings, version: ["no such folder"] * (version == 2))
    monkeypatch.setattr(Run, "watched", watched)
    settings = PantherSettings(models_dir=str(tmp_path))
    assert refresh_once(KafkaSettings(), settings, tmp_path, Wanted(DAY_MS)).rolled_back


def test_the_newest_days_of_an_ingested_log(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    write(store, [paid(0), paid(1, day=8), paid(2, day=9)])
    assert names(newest_days(tmp_path, None, {})) == ["t0", "t1", "t2"]
    assert names(newest_days(tmp_path, 2, {})) == ["t1", "t2"]
    assert names(newest_days(tmp_path, None, {}, most_rows=2)) == ["t1", "t2"]
    assert names(newest_days(tmp_path, None, {}, most_rows=1)) == ["t2"], "one day at least"
    with pytest.raises(BadInput, match="panther ingest"):
        newest_days(tmp_path / "none", 2, {})


@pytest.mark.parametrize(("live", "unloaded"), [(1, [2]), (2, []), (None, [])], ids=["refused", "live", "nobody knows"])
def test_a_version_that_went_live_meanwhile_is_never_unloaded(
    live: int | None, unloaded: list[int], taken_out: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator promotes the loaded challenger while it is judged, or the answer to the turn's own switch is lost."""

    async def told(_: KafkaSettings) -> list[ModelUpdate]:
        if live is None:
            raise ConnectionError("no broker")
        return [update(live)]

    monkeypatch.setattr(turn_module, "updates", told)
    settings = PantherSettings(models_dir=str(tmp_path))
    turn_module.Run(KafkaSettings(), settings, tmp_path, Wanted(DAY_MS), Turn(1, 2))._take_out()
    assert taken_out == unloaded
