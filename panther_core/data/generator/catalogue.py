"""Constants of the generated world: categories, channels, countries, and the routines that people's days consist of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CHANNELS = ("chip", "contactless", "online", "atm", "transfer")
CHIP, CONTACTLESS, ONLINE, ATM, TRANSFER = range(5)
COUNTRIES = ("DE", "FR", "ES", "IT", "NL", "GB", "US", "PL", "PT", "TR", "CN", "TH")
REGIONS = 5  # people live in the first five of COUNTRIES; they travel to all of them, and merchants sell from all
JOBS = ("student", "office", "trades", "night_shift", "self_employed", "parent", "retired")
CARDS = ("debit", "credit", "prepaid")


class Category(NamedTuple):
    """A kind of purchase: `median` amount in EUR, `mix` the shares of CHANNELS, `weight` its part of the merchants."""

    name: str
    median: float
    mix: tuple[float, float, float, float, float]
    weight: float


CATEGORIES = (
    Category("coffee", 4.2, (0.15, 0.80, 0.05, 0, 0), 8),
    Category("restaurant", 32.0, (0.55, 0.40, 0.05, 0, 0), 10),
    Category("fast_food", 11.0, (0.20, 0.50, 0.30, 0, 0), 8),
    Category("grocery", 34.0, (0.40, 0.48, 0.12, 0, 0), 8),
    Category("fuel", 48.0, (0.70, 0.30, 0, 0, 0), 5),
    Category("transit", 5.5, (0.10, 0.55, 0.35, 0, 0), 4),
    Category("parking", 6.0, (0.30, 0.45, 0.25, 0, 0), 4),
    Category("pharmacy", 17.0, (0.40, 0.45, 0.15, 0, 0), 5),
    Category("clothing", 52.0, (0.35, 0.25, 0.40, 0, 0), 8),
    Category("electronics", 130.0, (0.30, 0.15, 0.55, 0, 0), 5),
    Category("home", 60.0, (0.50, 0.25, 0.25, 0, 0), 5),
    Category("entertainment", 22.0, (0.20, 0.30, 0.50, 0, 0), 6),
    Category("streaming", 11.0, (0, 0, 1, 0, 0), 2),
    Category("travel", 160.0, (0.10, 0.05, 0.85, 0, 0), 4),
    Category("hotel", 140.0, (0.40, 0.15, 0.45, 0, 0), 5),
    Category("utilities", 70.0, (0, 0, 0.6, 0, 0.4), 3),
    Category("gaming", 7.0, (0, 0, 1, 0, 0), 3),
    Category("marketplace", 28.0, (0, 0, 1, 0, 0), 3),
    Category("cash", 70.0, (0, 0, 0, 1, 0), 3),
    Category("transfer", 120.0, (0, 0, 0.1, 0, 0.9), 3),
)
CATEGORY = {category.name: i for i, category in enumerate(CATEGORIES)}
MEDIAN = np.array([category.median for category in CATEGORIES])
MIX_CUMULATIVE = np.cumsum([category.mix for category in CATEGORIES], axis=1)


class Routine(NamedTuple):
    """A chain of payments made one after the other, such as the stops of a commute.

    `hour`: when the first step begins. `gap_min`: minutes between steps. `week`, `weekend`: how often on such days.
    `steps`: categories in order, with + or - for an amount larger or smaller than usual. `jobs`: those of the people
    who mostly have the routine. `payday`: whether the routine belongs to the days after pay.
    """

    name: str
    hour: float
    gap_min: float
    week: float
    weekend: float
    steps: str
    jobs: str = ""
    payday: bool = False


ROUTINES = (
    Routine("commute_rail", 7.6, 25, 1, 0.05, "transit coffee fast_food transit", "office student"),
    Routine("commute_car", 7.2, 40, 1, 0.1, "parking coffee fast_food fuel", "office trades self_employed"),
    Routine("lunch_walk", 12.2, 15, 1, 0.2, "fast_food coffee-", "office student self_employed"),
    Routine("corner_shop", 18.2, 20, 1, 0.6, "grocery- pharmacy-"),
    Routine("weekly_shop", 10.4, 30, 0.2, 2, "fuel grocery+ pharmacy home-", "parent retired trades"),
    Routine("night_out", 19.5, 70, 0.4, 2, "cash restaurant+ entertainment transit+", "student office self_employed"),
    Routine("evening_online", 21.3, 12, 1, 1, "marketplace clothing marketplace-", "office parent"),
    Routine("gamer", 21.8, 6, 1, 1.2, "gaming- gaming- gaming gaming- electronics-", "student night_shift"),
    Routine("mall", 14.0, 35, 0.3, 2, "parking clothing+ fast_food clothing entertainment", "parent student"),
    Routine("home_project", 9.5, 60, 0.4, 2, "home+ fuel home- electronics-", "trades self_employed retired"),
    Routine("weekend_trip", 8.5, 150, 0.3, 1, "travel- hotel- restaurant restaurant fuel", "self_employed retired"),
    Routine("family_pay", 9.0, 8, 1, 0.5, "transfer+ transfer- utilities", "parent trades", True),
    Routine("rent", 8.3, 6, 1, 0.5, "transfer+ utilities utilities- marketplace", "student office night_shift", True),
    Routine("market", 9.8, 20, 0.6, 1.5, "cash grocery- coffee grocery-", "retired"),
    Routine("takeaway", 19.2, 15, 1, 1.3, "fast_food+ streaming-", "student night_shift office"),
    Routine("health", 11.0, 25, 1, 0.3, "transit pharmacy grocery-", "retired parent"),
    Routine("on_the_road", 13.5, 50, 1, 0.3, "fuel- fast_food- parking fuel-", "trades self_employed"),
    Routine("gadgets", 22.4, 14, 1, 1, "electronics+ marketplace- streaming", "office night_shift"),
    Routine("campus", 10.2, 45, 1, 0.2, "coffee- fast_food- transit gaming-", "student"),
    Routine("night_shift", 23.2, 90, 1, 0.8, "fast_food coffee+ fuel", "night_shift"),
    Routine("business_trip", 6.4, 160, 1, 0.1, "travel hotel+ restaurant+ transit", "self_employed office"),
    Routine("sport", 17.8, 35, 1, 1, "entertainment- coffee parking-", "office parent retired"),
    Routine("children", 15.2, 25, 1, 1, "clothing- grocery fast_food pharmacy-", "parent"),
    Routine("big_purchase", 15.8, 25, 0.3, 1, "home+ electronics+ transfer-", "retired self_employed", True),
)
STEPS = np.array([len(routine.steps.split()) for routine in ROUTINES])
_WIDTH = int(STEPS.max())
STEP_CATEGORY = np.zeros((len(ROUTINES), _WIDTH), np.uint8)  # [routine, step]
STEP_BAND = np.zeros((len(ROUTINES), _WIDTH), np.int8)  # -1 small, 0 usual, 1 large
for _r, _routine in enumerate(ROUTINES):
    for _s, _step in enumerate(_routine.steps.split()):
        STEP_CATEGORY[_r, _s] = CATEGORY[_step.rstrip("+-")]
        STEP_BAND[_r, _s] = {"+": 1, "-": -1}.get(_step[-1], 0)
