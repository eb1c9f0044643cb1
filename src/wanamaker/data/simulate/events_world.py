"""How customers of the simulated log behave: what they can do on a day, how likely, and what it makes of them.

A customer's state on the morning of a day is a function of the events before it and of the day on which they came, and
their group is a function of their static traits. Given state and group (and weekend), the future does not depend on
the past. So everything that can be foretold on an as-of date can be read from the log, and is known exactly.

The state has five parts:

* engagement 0..3: one up with a purchase and with a second active day in a row, one down after a week without a visit;
* idle 0..6: days since the last active day (opening an e-mail is no activity);
* mood: CALM; a complaint makes UPSET, and support after that CALMED; support makes ASKED, and a complaint after that
  BURNT. CALMED and BURNT stay whatever is said later. A purchase or an idle week makes CALM. Who is BURNT cancels, who
  is CALMED stays, and counts of complaints and support contacts cannot tell one from the other;
* cart: NONE; CARTED; REGRET (removed after carting); DETERMINED (carted again after removing). A purchase or an idle
  week makes NONE. `cart, remove, cart` buys, `cart, cart, remove` does not;
* loyalty 0..2: purchases so far, capped.

Axis letters: G groups, S states (the last one: cancelled), A scripts (what happens on a day), n customers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from wanamaker.data.simulate.events_options import EventSimulation

TYPES = ("visit", "view", "cart", "remove", "purchase", "support", "complaint", "email_open", "cancel")
ENGAGEMENTS, IDLE_DAYS, MOODS, CARTS, LOYALTIES = 4, 7, 5, 4, 3
CALM, UPSET, CALMED, ASKED, BURNT = range(MOODS)
NONE, CARTED, REGRET, DETERMINED = range(CARTS)
SIZES = (ENGAGEMENTS, IDLE_DAYS, MOODS, CARTS, LOYALTIES)
NUM_STATES = int(np.prod(SIZES)) + 1
GONE = NUM_STATES - 1
ACTIVITIES, RISKS = 4, 3  # what traits make of a customer
NUM_GROUPS = ACTIVITIES * RISKS

SCRIPTS: tuple[tuple[str, ...], ...] = (
    (),
    ("email_open",),
    ("visit", "view"),
    ("visit", "view", "cart"),
    ("visit", "view", "cart", "remove"),
    ("visit", "view", "cart", "purchase"),
    ("visit", "remove"),
    ("visit", "view", "remove", "cart"),
    ("visit", "purchase"),
    ("support",),
    ("complaint",),
    ("support", "complaint"),
    ("complaint", "support"),
    ("cancel",),
)
NUM_SCRIPTS = len(SCRIPTS)
SHARES = (0.0, 0.0, 0.5, 0.14, 0.06, 0.04, 0.1, 0.08, 0.1)  # of visits, by script; the last three need a full cart
FULL = (CARTED, DETERMINED)
EMAIL_RATE, BOTH = 0.06, 0.15  # e-mails opened per day; days with both support and complaint, relative to one

# Changes of log rates and logits, by part of the state
ACTIVITY_OF_GROUP = (-0.7, -0.2, 0.2, 0.6)
RISK_OF_GROUP = (-0.8, 0.0, 0.9)
ACTIVITY_OF_ENGAGEMENT = (-1.2, -0.5, 0.0, 0.3)
RISK_OF_ENGAGEMENT = (0.9, 0.4, 0.0, -0.4)
RISK_OF_MOOD = (0.0, 0.1, -1.0, -0.1, 1.3)
PURCHASE_OF_MOOD = (0.0, -0.1, 0.3, 0.1, -0.5)
PURCHASE_OF_CART = (0.0, 0.2, -1.0, 0.9)
PURCHASE_OF_LOYALTY = (0.0, 0.2, 0.4)
RISK_OF_LOYALTY = (0.3, 0.0, -0.3)
BASKET_OF_LOYALTY = (1.0, 1.15, 1.3)  # factors of the amount


class Parts(NamedTuple):
    """The parts of states, int64 [...] each; see the head of this file."""

    engagement: np.ndarray
    idle: np.ndarray
    mood: np.ndarray
    cart: np.ndarray
    loyalty: np.ndarray


NEW = int(np.ravel_multi_index((2, 0, CALM, NONE, 0), SIZES))
"""The state of a customer who comes."""


def parts_of(state: np.ndarray) -> Parts:
    """The parts of states; those of GONE mean nothing."""
    return Parts(*np.unravel_index(np.minimum(state, GONE - 1), SIZES))


def after_event(state: tuple[int, ...], kind: str) -> tuple[int, ...]:
    """What one event makes of a customer who is not gone, but for engagement and idle days (see `after_day`)."""
    engagement, idle, mood, cart, loyalty = state
    if kind == "complaint":
        mood = {CALM: UPSET, ASKED: BURNT}.get(mood, mood)
    elif kind == "support":
        mood = {CALM: ASKED, UPSET: CALMED}.get(mood, mood)
    elif kind == "cart":
        cart = {NONE: CARTED, REGRET: DETERMINED}.get(cart, cart)
    elif kind == "remove":
        cart = REGRET
    elif kind == "purchase":
        mood, cart, loyalty = CALM, NONE, min(loyalty + 1, LOYALTIES - 1)
    return engagement, idle, mood, cart, loyalty


def after_day(state: tuple[int, ...], events: tuple[str, ...]) -> int:
    """The state on the next morning, or GONE."""
    if "cancel" in events:
        return GONE
    for kind in events:
        state = after_event(state, kind)
    engagement, idle, mood, cart, loyalty = state
    if set(events) - {"email_open"}:
        engagement += (idle == 0) or "purchase" in events
        idle = 0
    else:
        idle += 1
        if idle == IDLE_DAYS:
            engagement, idle, mood, cart = max(engagement - 1, 0), 1, CALM, NONE
    return int(np.ravel_multi_index((min(engagement, ENGAGEMENTS - 1), idle, mood, cart, loyalty), SIZES))


@lru_cache(maxsize=1)
def next_state() -> np.ndarray:
    """State on the next morning, int64 [S, A]; scripts that a state does not have lead nowhere that matters."""
    table = np.full((NUM_STATES, NUM_SCRIPTS), GONE)
    for state in range(GONE):
        parts = tuple(int(part) for part in np.unravel_index(state, SIZES))
        table[state] = [after_day(parts, events) for events in SCRIPTS]
    return table


@lru_cache(maxsize=1)
def counts_of_types() -> np.ndarray:
    """How often each type happens in each script, int64 [A, types]."""
    return np.array([[events.count(kind) for kind in TYPES] for events in SCRIPTS])


def script_probability(options: EventSimulation) -> np.ndarray:
    """Probability of each script on a working day and on a day of the weekend, float64 [2, G, S, A].

    Cancelling has a probability of its own; otherwise scripts are chosen by weights, that of an idle day being 1.
    """
    group_activity, group_risk = np.unravel_index(np.arange(NUM_GROUPS), (ACTIVITIES, RISKS))
    part = parts_of(np.arange(NUM_STATES))
    o = options

    def by(values: tuple[float, ...], index: np.ndarray, strength: float) -> np.ndarray:
        return strength * np.array(values)[index]

    weekend = np.array([0.0, o.weekend])[:, None, None]
    activity = weekend + by(ACTIVITY_OF_GROUP, group_activity, o.traits)[:, None]
    activity = np.exp(activity + by(ACTIVITY_OF_ENGAGEMENT, part.engagement, o.engagement))  # [2, G, S]
    buying = o.purchase * np.exp(
        by(PURCHASE_OF_MOOD, part.mood, o.order)
        + by(PURCHASE_OF_CART, part.cart, o.order)
        + by(PURCHASE_OF_LOYALTY, part.loyalty, o.engagement)
    )  # [S]
    risk = np.log(o.cancel / (1 - o.cancel)) + by(RISK_OF_GROUP, group_risk, o.traits)[:, None]
    risk = risk + by(RISK_OF_ENGAGEMENT, part.engagement, o.engagement) + by(RISK_OF_MOOD, part.mood, o.order)
    risk = 1 / (1 + np.exp(-risk - by(RISK_OF_LOYALTY, part.loyalty, o.engagement)))  # [G, S]

    full = np.isin(part.cart, FULL)
    weight = np.zeros((2, NUM_GROUPS, NUM_STATES, NUM_SCRIPTS))
    weight[..., 0] = 1.0
    weight[..., 1] = EMAIL_RATE
    for a, share in enumerate(SHARES):
        events = SCRIPTS[a]
        if share:
            possible = full if events[1] == "remove" or events in (SCRIPTS[7], SCRIPTS[8]) else 1.0
            weight[..., a] = o.activity * share * activity * possible * (buying if "purchase" in events else 1.0)
    for a, events in enumerate(SCRIPTS):
        if set(events) & {"support", "complaint"}:
            weight[..., a] = o.service * (BOTH if len(events) == 2 else 1.0)
    leaves = SCRIPTS.index(("cancel",))
    probability = weight / weight.sum(axis=-1, keepdims=True) * (1 - risk[..., None])
    probability[..., leaves] = risk
    probability[:, :, GONE] = 0.0
    probability[:, :, GONE, 0] = 1.0
    return probability


def is_weekend(day: np.ndarray | int, options: EventSimulation) -> np.ndarray:
    """1 on Saturdays and Sundays, int64; days count from the start of the log."""
    start = int(options.first_day.astype(np.int64)) + 3  # 1970-01-01 was a Thursday
    return ((start + np.asarray(day)) % 7 >= 5).astype(np.int64)
