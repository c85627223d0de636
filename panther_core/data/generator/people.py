"""The generated people: their profiles, and the habits that follow from a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.data.generator.catalogue import CARDS, COUNTRIES, JOBS, REGIONS, ROUTINES, STEPS
from panther_core.data.generator.config import GeneratorConfig
from panther_core.data.generator.rows import Floats, Ints, stream
from panther_core.data.schema import ProfileField

SLOTS = 7  # routines a person has
KEEP = 0.88  # chance that a step of a routine is done
PROFILE = (
    ProfileField("age", edges=(25, 35, 45, 55, 65)),
    ProfileField("income", edges=(15_000, 25_000, 35_000, 50_000, 75_000)),  # EUR a year
    ProfileField("job", values=JOBS),
    ProfileField("region", values=COUNTRIES[:REGIONS]),
    ProfileField("card", values=CARDS),
    ProfileField("household", edges=(2, 3, 4)),
)
_JOB_AGE = np.array([22, 40, 41, 38, 44, 39, 70])
_JOB_INCOME = np.array([9_000, 46_000, 34_000, 29_000, 52_000, 36_000, 24_000])
_JOB_SHARE = np.array([0.14, 0.27, 0.14, 0.08, 0.11, 0.14, 0.12])
_REGION_SHARE = np.array([0.36, 0.24, 0.16, 0.14, 0.10])


@dataclass(frozen=True)
class People:
    """U people with SLOTS routines each: arrays [U] hold a value a person, [U, SLOTS] a value a routine of a person.

    Days count from the start of the log.
    """

    profile: dict[str, list[Any]]
    region: Ints  # [U]
    level: Floats  # [U] log of spending against the median person
    modern: Floats  # [U] 0..1, leaning to phone and online
    pay_day: Ints  # [U] day of the month
    first_day: Ints  # [U]
    change_day: Floats  # [U] middle of the change of habits; outside the log for about half
    season: Floats  # [U] days that a favourite lasts
    routine: Ints  # [U, SLOTS]
    turn: Ints  # [U, SLOTS] the step a person begins the chain with: order is personal
    hour: Floats  # [U, SLOTS] hour of day of the first step
    rate: NDArray[np.float32]  # [2, U, SLOTS] chains a day before and after the change
    weekday: NDArray[np.float32]  # [U, SLOTS, 7] mean 1

    def __len__(self) -> int:
        return len(self.region)


def make_people(config: GeneratorConfig) -> People:
    """Draw the population."""
    rng, users = stream(config.seed, 1), config.users
    job = rng.choice(len(JOBS), users, p=_JOB_SHARE)
    age = np.clip(_JOB_AGE[job] + rng.normal(0, np.where(job == 0, 2.5, 9), users), 18, 92).astype(np.int64)
    income = np.round(_JOB_INCOME[job] * np.exp(rng.normal(0, 0.35, users)), -2).astype(np.int64)
    region = rng.choice(REGIONS, users, p=_REGION_SHARE)
    credit = np.clip(0.15 + income / 120_000, 0, 0.8)
    card = np.where(rng.random(users) < credit, 1, np.where((age < 26) & (rng.random(users) < 0.4), 2, 0))
    household = np.where(job == 5, rng.integers(3, 6, users), rng.integers(1, 4, users))
    routine = _choose_routines(rng, job)
    newcomer = rng.random(users) < config.newcomer_share
    first = np.where(newcomer, rng.integers(min(1, config.days - 1), config.days, users), 0)
    return People(
        profile={
            "age": age.tolist(),
            "income": income.tolist(),
            "job": [JOBS[i] for i in job],
            "region": [COUNTRIES[i] for i in region],
            "card": [CARDS[i] for i in card],
            "household": household.tolist(),
        },
        region=region,
        level=0.45 * np.log(income / 32_000) + rng.normal(0, 0.25, users),
        modern=np.clip(1.1 - age / 80 + rng.normal(0, 0.2, users), 0, 1),
        pay_day=np.where(job == 6, 1, rng.choice([1, 15, 25, 28], users)),
        first_day=first,
        change_day=rng.uniform(-0.5, 1.5, users) * config.days,
        season=rng.uniform(40, 160, users),
        routine=routine,
        turn=rng.integers(0, 60, (users, SLOTS)) % STEPS[routine],
        hour=np.array([r.hour for r in ROUTINES])[routine] + rng.normal(0, 1.2, (users, SLOTS)),
        rate=_rates(rng, routine, config.mean_transactions_per_day),
        weekday=_weekdays(rng, routine),
    )


def _choose_routines(rng: np.random.Generator, job: Ints) -> Ints:
    """[U, SLOTS] different routines: mostly those of the job, by Gumbel top-k."""
    affinity = np.array([[np.log(4.0 if name in r.jobs.split() else 0.7) for r in ROUTINES] for name in JOBS])
    score = affinity[job] + rng.gumbel(size=(len(job), len(ROUTINES)))
    return np.argsort(-score, axis=1, kind="stable")[:, :SLOTS]


def _rates(rng: np.random.Generator, routine: Ints, mean_per_day: float) -> NDArray[np.float32]:
    """Chains a day, so that an average person makes `mean_per_day` payments in both halves of life."""
    users = len(routine)
    activity = np.exp(rng.normal(-0.08, 0.4, (users, 1)))
    # earlier slots fit the person better; after the change the weights are drawn again
    weight = rng.gamma(0.8, 1.0, (2, users, SLOTS)) / (1 + np.arange(SLOTS)) + 0.02
    weight /= (weight * STEPS[routine]).sum(axis=2, keepdims=True) * KEEP
    return (weight * activity * mean_per_day).astype(np.float32)


def _weekdays(rng: np.random.Generator, routine: Ints) -> NDArray[np.float32]:
    """A routine has its own one to three days of the week; other days are rare."""
    base = np.array([[r.week] * 5 + [r.weekend] * 2 for r in ROUTINES])
    favourite = np.exp(2.2 * (rng.random((*routine.shape, 7)) < 0.35))
    weight = base[routine] * favourite + 0.02
    out: NDArray[np.float32] = (7 * weight / weight.sum(axis=2, keepdims=True)).astype(np.float32)
    return out
