import json

import jsonschema
import msgspec
import pytest

from infra.asyncapi import document
from panther_core.data.decision import Alert, ModelRef, Reason
from panther_core.data.generator import GeneratorConfig, generate
from tests import ROOT

STORED = ROOT / "docs" / "asyncapi.json"


def test_the_document_in_docs_is_the_generated_one() -> None:
    assert json.loads(STORED.read_text()) == document(), "run `panther topics describe > docs/asyncapi.json`"


def test_records_fit_their_schemas_and_wrong_ones_do_not() -> None:
    root = document()
    transaction = json.loads(msgspec.json.encode(next(generate(GeneratorConfig(users=5, days=5)).rows())))
    schema = {"$ref": "#/components/schemas/Transaction", "components": root["components"]}
    jsonschema.validate(transaction, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(transaction | {"amount": "12"}, schema)
    alert = Alert(
        alert_id="a",
        transaction_id="t",
        user_id="u",
        merchant_id="m",
        event_time=1,
        scored_at=2,
        latency_ms=1,
        score=0.9,
        risk_score=90,
        risk_level="high",
        threshold=0.5,
        reasons=[Reason("NEW_DEVICE", "The device differs", 1.5)],
        expected=[],
        history_len=3,
        cold_start=False,
        late=False,
        degraded=None,
        model=ModelRef("panther", 1),
        tokenizer_version="x",
    )
    schema = {"$ref": "#/components/schemas/Alert", "components": root["components"]}
    jsonschema.validate(json.loads(msgspec.json.encode(alert)), schema)
