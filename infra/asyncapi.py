"""AsyncAPI document of the topics, generated from the structs of the records."""

from __future__ import annotations

from typing import Any

import msgspec

from panther_core.data.commands import UserCommand
from panther_core.data.decision import Alert, Decision
from panther_core.data.events import SCHEMA_VERSION, Label, ModelProgress, ModelUpdate, Transaction
from panther_core.data.merchant_events import MerchantAlert, MerchantEvent, MerchantRiskRecord
from panther_core.data.topics import (
    ALERTS,
    DEAD_LETTERS,
    LABELS,
    MERCHANT_ALERTS,
    MERCHANT_EVENTS,
    MERCHANT_RISK,
    MODELS,
    PROGRESS,
    SCORES,
    SHADOW_SCORES,
    TRANSACTIONS,
    USER_COMMANDS,
)

_RECORDS: dict[str, tuple[str, type[msgspec.Struct] | None]] = {
    TRANSACTIONS: ("receive", Transaction),
    SCORES: ("send", Decision),
    SHADOW_SCORES: ("send", Decision),
    ALERTS: ("send", Alert),
    LABELS: ("receive", Label),
    MODELS: ("receive", ModelUpdate),
    PROGRESS: ("send", ModelProgress),
    USER_COMMANDS: ("receive", UserCommand),
    MERCHANT_EVENTS: ("send", MerchantEvent),
    MERCHANT_RISK: ("send", MerchantRiskRecord),
    MERCHANT_ALERTS: ("send", MerchantAlert),
    DEAD_LETTERS: ("send", None),
}
_DEAD_LETTER = {
    "name": "DeadLetter",
    "summary": "A transaction record that cannot be scored: its key and bytes as they came.",
    "payload": {"description": "the original bytes, of any form"},
    "headers": {
        "type": "object",
        "required": ["code", "reason", "source"],
        "properties": {
            "code": {"type": "string", "description": "stable reason, docs/outcomes.md"},
            "reason": {"type": "string", "description": "which field, what was expected, what came"},
            "source": {"type": "string", "description": "topic:partition:offset of the record"},
            "cut": {"type": "string", "description": "only where key and value are beginnings: what size they had"},
        },
    },
}


def document() -> dict[str, Any]:
    """AsyncAPI 3.0 document. Record keys are user ids, but on merchant.* merchant ids, on models.updates the model's
    name, and on models.progress `app_id:partition`."""
    structs = [struct for _, struct in _RECORDS.values() if struct is not None]
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    messages: dict[str, Any] = {"DeadLetter": _DEAD_LETTER}
    for struct in structs:
        messages[struct.__name__] = {
            "name": struct.__name__,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{struct.__name__}"},
        }
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic, (action, record) in _RECORDS.items():
        name = record.__name__ if record else "DeadLetter"
        channels[topic] = {"address": topic, "messages": {name: {"$ref": f"#/components/messages/{name}"}}}
        operation = f"{action}{name}"
        if operation in operations:  # a second topic of the same records
            operation += f"_{topic.replace('.', '_')}"
        operations[operation] = {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "panther-stream", "version": str(SCHEMA_VERSION)},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }
