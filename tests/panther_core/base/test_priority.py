"""What is done unhurriedly is done behind everything else, and changes nothing for who asked for it."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from panther_core.base.priority import load_unhurried, unhurried


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of threads")
def test_the_work_and_its_threads_are_nice_and_the_caller_is_not() -> None:
    before = niceness()
    found: list[int] = []

    def work() -> int:
        thread = threading.Thread(target=lambda: found.append(niceness()))
        thread.start()
        thread.join()
        return niceness()

    assert unhurried(work) == 10
    assert found == [10]
    assert niceness() == before


def test_an_error_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        unhurried(lambda: 1 / 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of threads")
@pytest.mark.parametrize(
    ("args", "environment", "wanted"),
    [
        ({"model_instance_kind": "CPU"}, {}, 10),
        ({"model_instance_kind": "GPU"}, {}, 0),
        ({"model_instance_kind": "CPU"}, {"PANTHER_DEVICE": "cuda"}, 0),
        ({"model_instance_kind": "CPU"}, {"PANTHER_TORCH_THREADS": "4"}, 0),
    ],
)
def test_a_model_of_several_threads_or_of_a_gpu_is_loaded_as_ever(
    args: dict[str, str], environment: dict[str, str], wanted: int
) -> None:
    found: list[int] = []
    load_unhurried(lambda: found.append(niceness()), args, environment)
    assert found == [max(wanted, niceness())]
