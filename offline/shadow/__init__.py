"""Beside the live system, two things by one name: a version that follows the stream, and a log through a real system.

`follow` (`panther shadow`): a challenger decides the live stream in one process. `all_versions` (`panther replay --via
kafka`): a log through a worker, Triton and topics of its own.
"""
