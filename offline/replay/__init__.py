"""Runs a known log through the very functions the worker runs, in process: what would have been decided.

`engine` decides, chunk by chunk; `measure` says what the decisions were worth; `columns` and `output` put them on
disk, resumable; `run` is the loop over a data set and several model versions.
"""

from offline.replay.measure import measure
from offline.replay.replayer import Replayed, Replayer, replay

__all__ = ["Replayed", "Replayer", "measure", "replay"]
