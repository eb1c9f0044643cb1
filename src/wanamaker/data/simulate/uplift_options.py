"""What decides every number of a simulated campaign: `UpliftSimulation` and the options it is made of.

Effects are shifts on the logit scale: near a rate of 10 %, 0.3 is about 2.7 percentage points.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wanamaker.data.simulate.media_fields import PART, check_fields, choice, folder_of, number, refuse, text, whole

VERSION = 1
"""Raise this when the same options give other numbers: it is part of the folder's name."""

KINDS = ("notice", "percent", "coupon", "placebo")
OUTCOMES = ("visit", "conversion", "spend")
PIECE_ROWS = 100_000
"""Rows that are made at a time; a piece is a function of the options and its number, so it belongs to `VERSION`."""

ID, TREATMENT, COST = "customer", "arm", "cost"


@dataclass(frozen=True)
class Arm:
    """An offer, against the control that gets nothing.

    A customer's shift of the logit of a visit is `effect * ((1 - heterogeneity) + heterogeneity * response)`, where
    `response` is near 1 for persuadables, near `-backlash` for sleeping dogs and near 0 for all others.

    Attributes:
        name: As the table has it.
        kind: `notice` (words only), `percent` (a discount on what is bought), `coupon` (a fixed amount), or `placebo`
            (changes nothing).
        effect: Shift of the logit of a visit for a persuadable; below 0 the offer keeps away.
        on_conversion: The logit of buying, given a visit, shifts by this many times the shift of a visit.
        on_basket: The log of the basket, given a purchase, shifts by this many times the shift of a visit.
        heterogeneity: 0: everybody responds alike; 1: by `persuadable`, `sleeping` and `backlash` alone.
        persuadable: Share of customers who respond.
        sleeping: Share of customers who respond the other way round.
        backlash: How strongly they do.
        discount: Of a percent offer, the share of the basket that it gives away; `spend` is before it.
        cost_per_contact: Money for each customer who gets the offer.
        cost_per_redemption: Money for each who then buys: the face value of a coupon.
        share: Of the customers, relative to the other arms.
    """

    name: str = text("offer")
    kind: str = choice("notice", KINDS)
    effect: float = number(0.5, -5, 5)
    on_conversion: float = number(0.5, -5, 5)
    on_basket: float = number(0.0, -2, 2)
    heterogeneity: float = number(1.0, 0, 1)
    persuadable: float = number(0.4, 0, 1)
    sleeping: float = number(0.1, 0, 1)
    backlash: float = number(0.6, 0, 5)
    discount: float = number(0.0, 0, 0.95)
    cost_per_contact: float = number(0.1, 0)
    cost_per_redemption: float = number(0.0, 0)
    share: float = number(1.0, 0, open_low=True)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.persuadable + self.sleeping > 1:
            remedy = f"with sleeping={self.sleeping:g} these are more than all customers; lower one of them."
            raise refuse("Arm.persuadable", self.persuadable, remedy)
        if self.kind == "placebo" and self.effect:
            raise refuse("Arm.effect", self.effect, "a placebo changes nothing; set it to 0, or choose another kind.")
        if (self.kind == "percent") != (self.discount > 0):
            remedy = "a percent offer has a discount above 0, the other kinds have none."
            raise refuse("Arm.discount", self.discount, f"kind={self.kind}; {remedy}")
        if self.kind == "coupon" and not self.cost_per_redemption:
            raise refuse("Arm.cost_per_redemption", 0.0, "give the value of the coupon.")
        if self.kind in ("notice", "placebo") and self.cost_per_redemption:
            remedy = f"nothing is redeemed with kind={self.kind}; choose coupon."
            raise refuse("Arm.cost_per_redemption", self.cost_per_redemption, remedy)


@dataclass(frozen=True)
class Columns:
    """What is known of the customers.

    Attributes:
        informative: Numeric features that outcomes, effects or the choice of the arm may depend on.
        irrelevant: Numeric features without any bearing; the first half of them are correlated with informative ones.
        skewed: Of the informative, how many are lognormal.
        correlation: Between any two informative features, before the lognormal ones are bent.
        missing: Share of empty cells in every third numeric feature. An empty cell acts as the average does, so that
            what is true of a customer depends on what the table shows.
        categorical: Features of names.
        levels: Of each.
        rare: Share of the last level of each.
    """

    informative: int = whole(8, 2, 200)
    irrelevant: int = whole(4, 0, 500)
    skewed: int = whole(3)
    correlation: float = number(0.3, 0, 0.95)
    missing: float = number(0.03, 0, 0.9)
    categorical: int = whole(2, 0, 50)
    levels: int = whole(5, 2, 1000)
    rare: float = number(0.005, 0, 0.5, open_low=True)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.skewed > self.informative:
            raise refuse("Columns.skewed", self.skewed, f"there are {self.informative} informative features.")


@dataclass(frozen=True)
class UpliftSimulation:
    """A campaign: customers, arms, and what came of it.

    Attributes:
        seed: Seeds everything.
        rows: N.
        shards: Parquet files that the rows are dealt to, in order; 0 is one table.
        control: Name of the arm without an offer.
        control_share: Of the customers, relative to the offers.
        visit_rate: Share of visits in the control.
        conversion_rate: Share of buyers among the visitors of the control.
        basket: Median spend of an average buyer, money.
        basket_sd: Standard deviation of the log basket that no feature tells.
        prognostic: How far features tell outcomes without an offer: standard deviation of the logits.
        nonlinear: Part of their variance that no straight line can tell; likewise of effects.
        alignment: Correlation between how likely a customer is to visit anyway and how far he can be persuaded.
        similarity: Part of the variance of what tells persuadables that all offers have in common.
        softness: Width of the border between persuadables and others, in standard deviations; 0 is a step.
        confounding: Standard deviation of the log odds of an offer; 0 is a randomised experiment. Good customers are
            more likely to get an offer.
        overlap: Smallest probability of any arm.
        money_unit: A word.
        columns, arms: See there.
    """

    seed: int = whole(0)
    rows: int = whole(20_000, 20, 1_000_000_000)
    shards: int = whole(0)
    control: str = text("control")
    control_share: float = number(1.0, 0, open_low=True)
    visit_rate: float = number(0.15, 0.001, 0.9)
    conversion_rate: float = number(0.2, 0.001, 0.9)
    basket: float = number(60.0, 0, open_low=True)
    basket_sd: float = number(0.6, 0, 2)
    prognostic: float = number(0.8, 0, 4)
    nonlinear: float = number(0.4, 0, 1)
    alignment: float = number(0.2, -0.95, 0.95)
    similarity: float = number(0.5, 0, 1)
    softness: float = number(0.4, 0, 5)
    confounding: float = number(0.0, 0, 5)
    overlap: float = number(0.03, 0, 0.3)
    money_unit: str = text("EUR")
    columns: Columns = field(default_factory=Columns, metadata=PART)
    arms: tuple[Arm, ...] = field(default=(Arm(),), metadata={"kind": "arms"})

    def __post_init__(self) -> None:
        check_fields(self)
        names = [self.control, *(arm.name for arm in self.arms)]
        if len(names) < 2:
            raise refuse("arms", [], "give at least one offer.")
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise refuse("arms", doubles, "each name once, and none that of the control.")
        if self.overlap * len(names) >= 1:
            raise refuse("overlap", self.overlap, f"{len(names)} arms leave less than {1 / len(names):.3g} for each.")
        if self.shards > self.num_pieces:
            remedy = f"{self.rows:,} rows are {self.num_pieces} pieces of {PIECE_ROWS:,}; give at most as many shards."
            raise refuse("shards", self.shards, remedy)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """K names, the control first."""
        return (self.control, *(arm.name for arm in self.arms))

    @property
    def num_pieces(self) -> int:
        """How many pieces the rows are made in."""
        return -(-self.rows // PIECE_ROWS)

    @property
    def probabilities(self) -> tuple[float, ...] | None:
        """[K], of the randomisation; None where the choice of the arm depends on the customer."""
        if self.confounding:
            return None
        shares = [self.control_share, *(arm.share for arm in self.arms)]
        return tuple(share / sum(shares) for share in shares)

    @property
    def folder_name(self) -> str:
        """A name that changes with every option and with the simulator."""
        return folder_of(f"{self.rows}x{len(self.arm_names)}", self, version=VERSION, piece=PIECE_ROWS)
