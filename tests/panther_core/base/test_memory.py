"""What was freed is the machine's again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_FREED = """
import numpy as np, psutil
from panther_core.base.memory import give_back
arrays = [np.ones(12_500) for _ in range(2_000)]  # 200 MB; the last one lies above the others
last = arrays.pop()
arrays.clear()
before = psutil.Process().memory_info().rss
give_back()
print((before - psutil.Process().memory_info().rss) // 1_000_000)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc keeps what is freed, others may not")
def test_freed_arrays_go_back_to_the_machine_though_one_above_them_is_held() -> None:
    done = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150
