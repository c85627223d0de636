import msgspec
import numpy as np

from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.schema import fit_schema
from panther_core.data.table import as_arrived, from_transactions

TABLE = generate(GeneratorConfig(users=20, days=10, merchants=40, seed=3))


def test_rows_and_back_give_the_same_events() -> None:
    schema = fit_schema(TABLE.amount, TABLE.category.words, TABLE.channel.words)
    again = from_transactions(
        list(TABLE.rows()), dict(zip(TABLE.transaction_id.tolist(), TABLE.label.tolist(), strict=True))
    )
    assert again.events(schema, None).tobytes() == TABLE.events(schema, None).tobytes()
    assert again.label.tolist() == TABLE.label.tolist()
    assert set(again.profile) == set(TABLE.profile)


def test_take_keeps_words() -> None:
    part = TABLE.take(slice(5, 9))
    assert len(part) == 4
    assert [part.user[i] for i in range(4)] == [TABLE.user[i] for i in range(5, 9)]


def test_words_not_given_have_hash_zero() -> None:
    events = TABLE.events(fit_schema(TABLE.amount, TABLE.category.words, TABLE.channel.words), None)
    assert TABLE.device is not None
    assert ((events["device"] == 0) == (TABLE.device.index < 0)).all()
    assert (np.diff(events["offset"]) == 1).all()


def test_as_arrived_keeps_the_order_and_each_event_s_own_profile() -> None:
    schema = fit_schema(TABLE.amount, TABLE.category.words, TABLE.channel.words, profile=PROFILE)
    rows = list(TABLE.rows())[::-1]
    rows[3] = msgspec.structs.replace(rows[3], profile=None)
    rows[5] = msgspec.structs.replace(rows[5], profile={"age": 99})
    events = as_arrived(rows).events(schema, None)
    backwards = TABLE.take(np.arange(len(TABLE))[::-1]).events(schema, None)
    backwards["profile"][3], backwards["profile"][5] = 0, schema.profile_codes([{"age": 99}])[0]
    assert events.tobytes() == backwards.tobytes()
    assert events["profile"][5].any()
