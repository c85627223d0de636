"""How a payment is made: merchant, channel, amount, country and device, given person, category and time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from panther_core.base.times import DAY_MS
from panther_core.data.generator.catalogue import (
    ATM,
    CATEGORIES,
    CATEGORY,
    CHIP,
    CONTACTLESS,
    COUNTRIES,
    MEDIAN,
    MIX_CUMULATIVE,
    ONLINE,
    TRANSFER,
)
from panther_core.data.generator.people import People
from panther_core.data.generator.rows import Floats, Ints, bell, uniform

OWN_DEVICES = 5  # three phones in a row, a laptop, a tablet


@dataclass(frozen=True)
class World:
    """People and merchants of one seed. Category c has the merchants numbered from first[c] to first[c + 1] - 1."""

    seed: int
    start_ms: int
    people: People
    first: Ints

    @property
    def shared_devices(self) -> int:
        """Number of devices that nobody owns alone, such as those of friends, hotels and libraries."""
        return max(16, len(self.people) // 3)

    def merchant(self, category: Ints, chance: Floats) -> Ints:
        """A merchant of each category; `chance` uniform in [0, 1) gives a few merchants most of the payments."""
        low, count = self.first[category], np.diff(self.first)[category]
        out: Ints = low + (count * chance**2.2).astype(np.int64)
        return out

    def usual_merchant(self, user: Ints, category: Ints, day: Ints, rng: np.random.Generator) -> Ints:
        """One of the person's three favourites in a category, each kept for a season; one time in ten any merchant."""
        rank = np.searchsorted([0.62, 0.82, 0.90], rng.random(len(user)), side="right")
        season = (day / self.people.season[user] + uniform(self.seed, 11, user, category, rank)).astype(np.int64)
        favourite = uniform(self.seed, 12, user, category, rank, season)
        return self.merchant(category, np.where(rank == 3, rng.random(len(user)), favourite))

    def usual_channel(self, user: Ints, category: Ints, rng: np.random.Generator) -> Ints:
        """The person's habitual channel in a category, nine times in ten; otherwise any channel of the category.

        People with a high `modern` lean to phone and online.
        """
        habit = uniform(self.seed, 13, user, category)
        lean = 0.5 + 0.5 * (self.people.modern[user] - 0.5)
        habit = np.clip(0.5 + (habit - 0.5) * 0.8 + (lean - 0.5) * 0.5, 0, 0.999999)
        chance = np.where(rng.random(len(user)) < 0.91, habit, rng.random(len(user)))
        out: Ints = np.minimum((chance[:, None] >= MIX_CUMULATIVE[category]).sum(axis=1), TRANSFER)
        return out

    def amount(self, user: Ints, category: Ints, merchant: Ints, band: Ints, rng: np.random.Generator) -> Floats:
        """Amounts in EUR: a product of factors of category, size of purchase (`band`), person and merchant.

        A third of the payments is the person's usual purchase at the merchant, the same amount to the cent.
        """
        noise = rng.standard_normal(len(user), np.float32).astype(np.float64)
        usual = rng.random(len(user), np.float32) < 0.35
        noise = np.where(usual, bell(self.seed, 14, user, merchant, band), noise)
        log = (
            np.log(MEDIAN)[category]
            + 0.8 * band
            + self.people.level[user] * 0.7
            + 0.25 * bell(self.seed, 15, user, category)
            + 0.30 * bell(self.seed, 16, merchant)
            + 0.20 * noise
        )
        return price(np.exp(log), category)

    def seller_country(self, merchant: Ints, region: Ints) -> Ints:
        """Country of an online payment: three quarters of the merchants sell from the buyer's own country (`region`),
        the others from one country each."""
        chance = uniform(self.seed, 17, merchant)
        return np.where(chance < 0.75, region, (uniform(self.seed, 18, merchant) * len(COUNTRIES)).astype(np.int64))

    def travelling(self, user: Ints, day: Ints) -> Ints:
        """Country where a person is on a day. Each fortnight contains a trip of 3 to 11 days, with a chance of the
        person's own."""
        fortnight = (day + 97 * (user % 14)) // 14
        within = (day + 97 * (user % 14)) % 14
        fond = 0.03 + 0.12 * uniform(self.seed, 19, user) ** 2
        away = (uniform(self.seed, 20, user, fortnight) < fond) & (
            within < 3 + 8 * uniform(self.seed, 21, user, fortnight)
        )
        abroad = (uniform(self.seed, 22, user, fortnight) * len(COUNTRIES)).astype(np.int64)
        return np.where(away, abroad, self.people.region[user])

    def device(self, user: Ints, channel: Ints, day: Ints, rng: np.random.Generator) -> Ints:
        """Phone (replaced every 100 to 700 days), laptop or tablet, now and then a shared device; -1 by chip or at a
        cash machine."""
        life = 100 + 600 * uniform(self.seed, 23, user)
        phone = np.minimum((day / life + uniform(self.seed, 24, user)).astype(np.int64), 2)
        at_desk = (rng.random(len(user), np.float32) < 0.8 * (1 - self.people.modern[user])) & (channel != CONTACTLESS)
        own = user * OWN_DEVICES + np.where(at_desk, 3 + (uniform(self.seed, 25, user, day // 60) < 0.2), phone)
        strange = (rng.random(len(user), np.float32) < 0.012) & (channel != CONTACTLESS)
        return np.where(
            (channel == CHIP) | (channel == ATM), -1, np.where(strange, self.strange_device(len(user), rng), own)
        )

    def strange_device(self, n: int, rng: np.random.Generator) -> Ints:
        """`n` devices out of the shared pool."""
        return len(self.people) * OWN_DEVICES + rng.integers(0, self.shared_devices, n)

    def country(self, user: Ints, channel: Ints, merchant: Ints, day: Ints) -> Ints:
        """Country of a payment: home for a transfer, the seller's online, otherwise where the person is."""
        region = self.people.region[user]
        return np.where(
            channel == TRANSFER,
            region,
            np.where(channel == ONLINE, self.seller_country(merchant, region), self.travelling(user, day)),
        )

    def day_of(self, time_ms: Ints) -> Ints:
        """Days since the start of the log."""
        return (time_ms - self.start_ms) // DAY_MS


def price(amount: Floats, category: Ints) -> Floats:
    """Amounts rounded to cents, at least 50 cents; of the category cash, to notes of ten."""
    return np.where(
        category == CATEGORY["cash"], np.maximum(10, np.round(amount, -1)), np.maximum(0.5, np.round(amount, 2))
    )


def make_world(seed: int, start_ms: int, people: People, merchants: int) -> World:
    """Spread the merchants over the categories by weight; each category gets one at least."""
    weight = np.array([category.weight for category in CATEGORIES])
    extra = merchants - len(weight)
    edges = np.round(np.cumsum(weight) / weight.sum() * extra).astype(np.int64) + np.arange(1, len(weight) + 1)
    return World(seed, start_ms, people, np.concatenate([[0], edges]))
