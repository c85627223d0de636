"""Runs a known log through the very functions the worker runs, in process: what would have been decided.

`engine` decides, chunk by chunk; `measure` says what the decisions were worth; `columns` and `output` put them on
disk, resumable; `run` is the loop over a data set and several model versions.
"""

from stream.replay.engine import Replayed, Replayer, replay
from stream.replay.measure import measure

__all__ = ["Replayed", "Replayer", "measure", "replay"]
