"""Well-known public data sets, told by their header: how each is read, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class KnownSet:
    """`header`: columns by which the set is known. `format`: of a reader of its own; None: `mapping`, the keys of a
    mapping file but `data`. `lacks`: what the set does not have, and what is taken for it."""

    name: str
    header: frozenset[str]
    mapping: dict[str, Any] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    format: str | None = None
    sequences: bool = False
    """Whether it holds choices of users and no payments: for `panther bench seqrec`, not for training."""


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


KNOWN: tuple[KnownSet, ...] = (
    KnownSet(
        "PaySim",
        _of("step", "type", "amount", "nameOrig", "nameDest", "isFraud"),
        {
            "time": "h",
            "start": "2017-01-01",
            "columns": {
                "user_id": "nameOrig",
                "merchant_id": "nameDest",
                "merchant_category": "type",
                "amount": "amount",
                "event_time": "step",
                "label": "isFraud",
            },
        },
        (
            "a start: `step` counts hours from an unnamed day, 2017-01-01 is taken",
            "users' histories: almost every payer pays once, so nothing can be learnt of habits; `panther data check` "
            "counts them",
        ),
    ),
    KnownSet(
        "IEEE-CIS",
        _of("TransactionID", "TransactionDT", "TransactionAmt", "ProductCD", "card1"),
        {
            "time": "s",
            "start": "2017-12-01",
            "columns": {
                "transaction_id": "TransactionID",
                "user_id": ["card1", "addr1", "P_emaildomain"],
                "merchant_id": "ProductCD",
                "merchant_category": "ProductCD",
                "amount": "TransactionAmt",
                "event_time": "TransactionDT",
                "device": "R_emaildomain",
                "label": "isFraud",
            },
        },
        (
            "a start: `TransactionDT` counts seconds, 2017-12-01 is what most people take",
            "users: card1, addr1 and the payer's mail domain together stand for one",
            "merchants: the product code stands for one, so what is known of merchants says little",
        ),
    ),
    KnownSet(
        "BankSim",
        _of("step", "customer", "zipcodeOri", "merchant", "zipMerchant", "category", "amount", "fraud"),
        {
            "quote": "'",
            "time": "d",
            "start": "2012-11-01",
            "columns": {
                "user_id": "customer",
                "merchant_id": "merchant",
                "merchant_category": "category",
                "amount": "amount",
                "event_time": "step",
                "label": "fraud",
            },
            "profile": {"age": "age", "gender": "gender"},
        },
        ("a start and times of day: `step` counts days from an unnamed one, 2012-11-01 is taken",),
    ),
    KnownSet(
        "IBM AML",
        _of("Timestamp", "From Bank", "To Bank", "Amount Paid", "Payment Currency", "Payment Format", "Is Laundering"),
        {
            "time": "%Y/%m/%d %H:%M",
            "columns": {
                "user_id": ["From Bank", "Account#1"],
                "merchant_id": ["To Bank", "Account#2"],
                "amount": "Amount Paid",
                "currency": "Payment Currency",
                "channel": "Payment Format",
                "event_time": "Timestamp",
                "label": "Is Laundering",
            },
        },
        ("one currency: give [rates] with the worth of one unit of each",),
    ),
    KnownSet(
        "BAF (bank account fraud)",
        _of("fraud_bool", "income", "name_email_similarity", "month"),
        {},
        ("users, merchants, amounts and times: its rows are applications for accounts, not payments",),
    ),
    KnownSet(
        "Kaggle's credit cards (ULB)",
        _of("Time", "V1", "V28", "Amount", "Class"),
        {},
        ("users and merchants: its columns V1 to V28 are components without a meaning, so no history can be kept",),
    ),
    KnownSet(
        "Online Retail",
        _of("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"),
        {},
        ("labels; amounts are quantity times price, so sum them up by invoice first",),
    ),
    KnownSet(
        "RetailRocket",
        _of("timestamp", "visitorid", "event", "itemid"),
        {},
        ("amounts and labels: its rows are views and purchases of items",),
        sequences=True,
    ),
    KnownSet("MovieLens", _of("userId", "movieId", "rating", "timestamp"), {}, ("amounts and labels",), sequences=True),
    KnownSet(
        "Amazon ratings",
        _of("user_id", "parent_asin", "rating", "timestamp"),
        {},
        ("amounts and labels",),
        sequences=True,
    ),
    KnownSet("Sparkov", _of("trans_num", "cc_num", "merchant", "amt", "is_fraud"), format="sparkov"),
    KnownSet(
        "Fraud Detection Handbook", _of("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID"), format="fdh"
    ),
    KnownSet(
        "IBM credit card transactions", _of("User", "Card", "Use Chip", "Merchant Name", "MCC"), format="tabformer"
    ),
)


def known_set(header: list[str]) -> KnownSet | None:
    """The set that this header belongs to, if it is a known one. Numbers that tell equal names apart are left out."""
    found = {name.split("#")[0].strip() for name in header}
    return next((known for known in KNOWN if known.header <= found), None)
