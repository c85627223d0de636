"""Runs a known log through the functions that the worker runs, in process: what the stream would have decided.

`request` says what to replay and holds the loop over a data set and several model versions; `replayer` decides, chunk
by chunk; `topic` reads a log from Kafka; `labels` reads labels from a file of their own; `columns` and `output` write
the decisions to disk, resumable; `measure` says what the decisions were worth.
"""

from offline.replay.replayer import Replayed, Replayer, replay

__all__ = ["Replayed", "Replayer", "replay"]
