"""The contender `quix_tps` of `panther bench worker`: the job of same_job.py with Quix Streams.

A stateful function over the transactions topic, with RocksDB state and a changelog.

    python quix.py BROKER GROUP STATE_DIR IN_TOPIC OUT_TOPIC STATE_BYTES

contest.py runs it as a file in an environment of its own, whose versions differ from this project's, so it imports
nothing of the project but same_job.py.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from quixstreams import Application, State  # type: ignore[import-not-found]
from same_job import decide, next_state  # type: ignore[import-not-found]  # the folder of this file


def main() -> None:
    """Run until stopped."""
    broker, group, state_dir, in_topic, out_topic, size = sys.argv[1:]
    app = Application(
        broker_address=broker,
        consumer_group=group,
        state_dir=state_dir,
        auto_offset_reset="earliest",
        auto_create_topics=True,  # its own changelog
    )
    out = app.topic(out_topic, key_serializer="bytes", value_serializer="bytes")

    def work(value: bytes, state: State) -> bytes:
        after = next_state(state.get_bytes("state"), int(size))
        state.set_bytes("state", after)
        answer: bytes = decide(msgspec.json.decode(value), after)
        return answer

    def run(frame: Any) -> None:
        frame.apply(work, stateful=True).to_topic(out)

    run(app.dataframe(app.topic(in_topic, key_deserializer="bytes", value_deserializer="bytes")))
    app.run()


if __name__ == "__main__":
    main()
