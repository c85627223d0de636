"""The program's own words and records, for the fuzzer: an id, a key or a header that collides with one must do no harm.

Words are all short string constants in the source of `panther_core`, `stream` and `trainer`: names of topics, headers
and fields, keys of records in the state stores, codes, words of degraded decisions and of profiles. So a constant that
is added later is tried too.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import msgspec

from bench.outsiders import ODD_IDS, POISON_IDS, decision
from panther_core.data.decision import Alert, Decision, Expected, Reason
from panther_core.data.events import Label, ModelProgress, ModelUpdate

_PACKAGES = "panther_core", "stream", "trainer"
_LONGEST = 128  # characters: no longer id is valid


@cache
def own_words() -> tuple[str, ...]:
    """Every string constant of the program up to 128 characters, docstrings left out, and ids made to collide."""
    root, found = Path(__file__).resolve().parents[2], set[str]()
    for package in _PACKAGES:
        for path in sorted(root.glob(f"{package}/**/*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                    value = node.value
                    found.add(value if isinstance(value, str) else value.decode(errors="replace"))
    short = {word for word in found if 0 < len(word) <= _LONGEST and word.count(" ") < 3}
    return (*sorted(short), *POISON_IDS, *ODD_IDS)


@cache
def own_records() -> tuple[bytes, ...]:
    """A record of each kind that the program writes, as it would come back as an input."""
    made = msgspec.json.decode(decision("t0000000001", "u00001"), type=Decision)
    alert = Alert(
        **(msgspec.structs.asdict(made) | {"alert": True}),
        alert_id="5d1d4a3c-6f0e-5c56-9d3b-6a0a2f7f9b11",
        merchant_id="m00001",
        risk_score=97,
        risk_level="critical",
        reasons=[Reason("amount_unusual", "Unusual amount", 1.5)],
        expected=[Expected("grocery", "chip", 1.0, None)],
        tokenizer_version="1",
    )
    update = ModelUpdate(name="panther", version=2, threshold=0.5, schema_fingerprint="0" * 64, artifact="../models/2")
    progress = ModelProgress(app_id="panther", partition=0, version=2, moved_at=1_750_000_000_000)
    label = Label(transaction_id="t1", user_id="u00001", label=1, label_time=1_750_000_000_000, source="chargeback")
    return tuple(map(msgspec.json.encode, (made, alert, update, progress, label)))
