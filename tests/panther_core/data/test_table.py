import msgspec
import numpy as np

from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.schema import ProfileField, fit_schema
from panther_core.data.table import TransactionTable
from panther_core.data.table_rows import as_arrived, from_transactions
from trainer.fit.schema_fit import fit_profile

TABLE = generate(GeneratorConfig(users=20, days=10, merchants=40, seed=3))


def test_rows_and_back_give_the_same_events() -> None:
    schema = fit_schema(TABLE.amount, TABLE.category.words, TABLE.channel.words)
    names = zip((TABLE.user[i] for i in range(len(TABLE))), TABLE.transaction_id.tolist(), strict=True)
    again = from_transactions(
        list(TABLE.rows()), {name: (label, 7) for name, label in zip(names, TABLE.label.tolist(), strict=True)}
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


def changing() -> TransactionTable:
    """A user whose status changes at the third payment, which comes late; another user without a profile."""
    facts = ({"status": "good"}, None, {"status": "chargeback", "limit": 5}, {"status": "good"})
    rows = [
        msgspec.structs.replace(t, user_id="u", transaction_id=str(i), event_time=1_740_000_000_000 + at, profile=fact)
        for i, (t, at, fact) in enumerate(zip(TABLE.rows(), (0, 1, 3, 2), facts, strict=False))
    ]
    other = msgspec.structs.replace(rows[0], user_id="other", event_time=1_740_000_000_009, profile=None)
    return from_transactions([*rows, other], {("u", "0"): (1, 5)})


def test_each_event_has_the_profile_of_its_time() -> None:
    """A fact that changes because of the fraud would else tell the model of it beforehand."""
    table, status = changing(), ProfileField("status", values=("good", "chargeback"))
    schema = fit_schema(table.amount, table.category.words, table.channel.words, profile=(status,))
    assert table.user.words == ("other", "u")
    assert table.events(schema, None)["profile"][:, 0].tolist() == [1, 0, 1, 2, 0]
    assert [t.profile for t in table.rows()][3] == {"status": "chargeback", "limit": 5}
    assert table.take(slice(2, 4)).events(schema, None)["profile"][:, 0].tolist() == [1, 2]


def test_a_label_is_of_one_users_transaction() -> None:
    table = changing()
    assert {(table.user[i], str(table.transaction_id[i])): int(table.label[i]) for i in range(len(table))} == {
        ("u", "0"): 1, ("u", "1"): -1, ("u", "2"): -1, ("u", "3"): -1, ("other", "0"): -1,
    }  # fmt: skip


def test_a_schema_is_fitted_on_the_profiles_that_its_window_has() -> None:
    assert [field.name for field in fit_profile(changing().take(slice(0, 3)))] == ["status", "limit"]
    (status, limit) = fit_profile(changing().take(slice(0, 3)))
    assert (status.values, limit.values) == (("good",), ())
