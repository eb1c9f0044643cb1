"""Gates: what makes an experiment's table unfit for learning effects, found before anything is learnt.

| gate | stops the run when |
|---|---|
| sample_ratio | arms are not as frequent as the known probabilities say (chi-square) |
| arm_rows | an arm has too few training rows |
| post_treatment | a feature tells the arm although it was drawn at random, or never varies in one arm alone |
| imbalance | a feature's mean differs between arms that were drawn at random |
| propensity | a model can tell the arms apart although they were drawn at random (cross-validated AUC) |
| overlap | too many customers were (nearly) certain of their arm, where it was not drawn at random |
| leak | one feature predicts an outcome suspiciously well |
| outcome_like | a feature, 0 for nearly all, goes with an outcome without exception |
| names | a categorical feature that nobody declared has nearly as many names as there are rows |

`data.allow` names gates or columns whose findings are warnings. `missing` and `repeated` are let through there, too:
rows without a label, and identifiers that repeat, which are refused as the table is read.

All but the first two gates look at a sample of the training rows. "Drawn at random" means that `roles.probabilities`
are given.

Axis letters: N sampled rows, F numeric features, J categorical features, K arms, Y outcomes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.experiment_balance import Balance, balance_of, rank_auc, rates_of_others
from wanamaker.data.experiment_table import ExperimentRows
from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_roles import nearest
from wanamaker.data.uplift_batch import UpliftSchema
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

GATES = (
    "sample_ratio",
    "arm_rows",
    "post_treatment",
    "imbalance",
    "propensity",
    "overlap",
    "leak",
    "outcome_like",
    "names",
    "missing",
    "repeated",
)
CHECKS: dict[str, float] = {
    "rows": 20_000,  # of the sample
    "sample_ratio_p": 1e-3,
    "arm_rows": 30,
    "arm_auc": 0.65,  # of a single feature, for the arm
    "smd": 0.1,  # standardised mean difference
    "propensity_auc": 0.55,
    "clip": 0.02,  # propensities below it, or above 1 - it, are no overlap
    "outside": 0.2,  # largest share of such rows
    "leak_auc": 0.95,
    "leak_r2": 0.9,
}
_RANGES: dict[str, tuple[float, float]] = {  # of the thresholds that are not open above
    "sample_ratio_p": (0, 1),
    "arm_auc": (0.5, 1),
    "propensity_auc": (0.5, 1),
    "clip": (0, 0.5),
    "outside": (0, 1),
    "leak_auc": (0.5, 1),
    "leak_r2": (0, 1),
}
_MANY_NAMES, _REPEATS = 20, 2  # so many names of a feature should be met so often, on average
_FEW = 10  # customers with an outcome, below which nothing is said of it
_EXPECTED = 15  # rows that should vary in an arm by chance: none of them happens once in e^15
_SIGMAS = 5  # standard errors that a difference must exceed: many features are looked at


@dataclass(frozen=True)
class Finding:
    """What a gate found.

    Attributes:
        gate: its name.
        text: what is wrong and what to do.
        column: the feature, where it is one.
        stops: whether the run stops.
    """

    gate: str
    text: str
    column: str | None = None
    stops: bool = True


@dataclass(frozen=True)
class GateReport:
    """What was looked at.

    Attributes:
        arm_count: labelled rows of each arm. sample_ratio_p: of the chi-square test; None where probabilities are not
            known.
        balance: differences between arms.
        findings: of all gates, those that were let through, too.
    """

    arm_count: dict[str, int]
    sample_ratio_p: float | None
    balance: Balance
    findings: tuple[Finding, ...]


def parse_checks(checks: Mapping[str, Any] | None) -> dict[str, float]:
    """Thresholds over their defaults.

    Raises:
        UserError: an unknown name, no number, or one at which a gate would let everything or nothing through.
    """
    options = options_of("data.checks", checks, CHECKS)
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"data.checks.{name}={value!r} must be a number, 0 or more.")
        low, high = _RANGES.get(name, (0, value))
        if not low <= value <= high:
            raise UserError(
                f"data.checks.{name}={value!r} must lie between {low:g} and {high:g}; {CHECKS[name]:g} is usual. To let"
                " a gate's findings through, list the gate in data.allow."
            )
        if name in ("rows", "arm_rows") and (value != int(value) or (name == "rows" and value < 1)):
            raise UserError(f"data.checks.{name}={value!r} must be a whole number, {int(name == 'rows')} or more.")
    return options


def check_allow(allow: Collection[Any], columns: Collection[str] = ()) -> tuple[str, ...]:
    """Names that are let through.

    Raises:
        UserError: a name that is neither a gate nor one of `columns`.
    """
    if isinstance(allow, str):  # before its letters are taken for names
        raise UserError(f"data.allow={allow!r} must be a list of gates or columns, such as [{allow}].")
    for name in allow:
        if name not in GATES and name not in columns:
            raise UserError(
                f"data.allow names {name!r}, which is neither a gate nor a feature."
                f" {nearest(str(name), [*GATES, *columns])}"
            )
    return tuple(map(str, allow))


def run_gates(
    schema: UpliftSchema,
    rows: ExperimentRows,
    arm_count: np.ndarray,
    train_count: np.ndarray,
    checks: Mapping[str, float],
    seed: int = 0,
) -> GateReport:
    """Look at a sample of the training rows.

    Args:
        schema: names.
        rows: the sample, in random order.
        arm_count: int [K], labelled rows of the whole table.
        train_count: int [K], training rows.
        checks: thresholds, from `parse_checks`.
        seed: of the folds of the propensity model.
    """
    rows = rows.take(slice(0, int(checks["rows"])))
    ratio_p, found = _sample_ratio(schema, arm_count, checks["sample_ratio_p"])
    few = [*_few_rows(schema, train_count, int(checks["arm_rows"]))]
    # With next to no rows of an arm, differences between arms say nothing.
    balance = balance_of(schema, rows, checks["clip"], seed, propensity=not few)
    found += few or [*_post_treatment(schema, rows, balance, checks["arm_auc"])]
    if not few:
        told = {finding.column for finding in found}
        found += [f for f in _imbalance(schema, balance, checks) if f.column not in told]
    found += _leaks(schema, rows, checks)
    found += _mute(schema, rows)
    return GateReport(dict(zip(schema.arms, arm_count.tolist(), strict=True)), ratio_p, balance, tuple(found))


def settle(report: GateReport, allow: Collection[str], source: str) -> None:
    """Raise one `UserError` with all findings that stop the run; log the others.

    Args:
        report: from `run_gates`.
        allow: gates and columns whose findings are warnings.
        source: name of the file.
    """
    stops = [f for f in report.findings if f.stops and f.gate not in allow and f.column not in allow]
    warnings = [f for f in report.findings if f not in stops]
    for finding in warnings:
        log.warning("%s: %s: %s", source, finding.gate, finding.text)
    if stops:
        texts = [_with_way_out(finding) for finding in stops]
        head = f"{source}: the experiment cannot be learnt from as it is."
        raise UserError(" ".join([head, *texts]) if len(texts) == 1 else "\n  ".join([head, *texts]))


def _with_way_out(finding: Finding) -> str:
    name = finding.column or finding.gate
    return f"{finding.gate}: {finding.text} (data.allow=[{name}] lets it through.)"


def _sample_ratio(schema: UpliftSchema, count: np.ndarray, limit: float) -> tuple[float | None, list[Finding]]:
    if not schema.probabilities:
        return None, []
    from scipy.stats import chisquare

    expected = np.array(schema.probabilities) * count.sum()
    p = float(chisquare(count, expected).pvalue)
    if p >= limit:
        return p, []
    k = int(np.abs((count - expected) / np.sqrt(expected)).argmax())
    text = (
        f"arm {schema.arms[k]!r} has {count[k]:,} of {count.sum():,} rows where {expected[k]:,.0f} are expected"
        f" (p = {p:.1g}): customers were lost or assigned otherwise than data.roles.probabilities say. Find out which,"
        " correct the probabilities, or set them to null to have them estimated."
    )
    return p, [Finding("sample_ratio", text)]


def _few_rows(schema: UpliftSchema, count: np.ndarray, least: int) -> Iterator[Finding]:
    for name, rows in zip(schema.arms, count.tolist(), strict=True):
        if rows < least:
            text = (
                f"arm {name!r} has {rows} training rows, fewer than data.checks.arm_rows={least}: its effect would be"
                " noise. Lower data.split.test, or leave the arm out with data.roles.arms."
            )
            yield Finding("arm_rows", text)


def _post_treatment(schema: UpliftSchema, rows: ExperimentRows, balance: Balance, limit: float) -> Iterator[Finding]:
    remedy = "It is known only after the treatment, and would take the effect for itself. Leave it out with"
    for name, values in features_of(schema, rows):
        k = _still_in_one_arm(values, rows.treatment, schema.num_arms)
        if k is not None:
            shown = values[rows.treatment == k][0]
            word = "empty" if np.isnan(shown) else f"{shown:g}"
            word = word if name in schema.numeric else "the same name"
            text = (
                f"feature {name!r} is {word} in every row of arm {schema.arms[k]!r} and not in the others. {remedy}"
                f" data.roles.drop=[{name}]."
            )
            yield Finding("post_treatment", text, name)
        elif schema.probabilities and name in balance.arm_auc:
            auc, error, arm = balance.arm_auc[name]
            if auc > limit and auc - 0.5 > _SIGMAS * error:
                text = (
                    f"feature {name!r} tells arm {arm!r} from the control (AUC {auc:.2f}) although arms were drawn at"
                    f" random. {remedy} data.roles.drop=[{name}]."
                )
                yield Finding("post_treatment", text, name)


def _still_in_one_arm(values: np.ndarray, arm: np.ndarray, num_arms: int) -> int | None:
    """The arm in which a feature has one value only, where chance would have made it vary."""
    for k in range(num_arms):
        own, others = values[arm == k], values[arm != k]
        if not len(own):
            continue
        differs = (others != own[0]) & ~(np.isnan(others) & np.isnan(own[0]))
        same = (own == own[0]) | (np.isnan(own) & np.isnan(own[0]))
        if same.all() and len(own) * differs.mean() > _EXPECTED:
            return k
    return None


def _imbalance(schema: UpliftSchema, balance: Balance, checks: Mapping[str, float]) -> Iterator[Finding]:
    randomised = bool(schema.probabilities)
    for name, (difference, error, arm) in balance.smd.items():
        if abs(difference) > checks["smd"] and abs(difference) > _SIGMAS * error:
            ask = "Look for arms that were cut from different lists, or set data.roles.probabilities=null."
            text = (
                f"feature {name!r} differs between arm {arm!r} and the control by {difference:+.2f} standard deviations"
            )
            text += f" although arms were drawn at random. {ask}" if randomised else ": effects rest on the propensity."
            yield Finding("imbalance", text, name, stops=randomised)
    for arm, (auc, error) in balance.propensity_auc.items():
        if randomised and auc > checks["propensity_auc"] and auc - 0.5 > _SIGMAS * error:
            text = (
                f"the features together tell arm {arm!r} from the control (cross-validated AUC {auc:.3f}, standard"
                f" error {error:.3f}) although arms were drawn at random. Look for features that the treatment"
                " changed, or set data.roles.probabilities=null to have the probabilities estimated."
            )
            yield Finding("propensity", text)
    if not randomised and balance.outside is not None and balance.outside > checks["outside"]:
        text = (
            f"{balance.outside:.0%} of the customers had a probability outside"
            f" [{checks['clip']:g}, {1 - checks['clip']:g}] of some arm, more than data.checks.outside="
            f"{checks['outside']:g}: nobody comparable got the other arm. Restrict the table to customers who could"
            " have got either, or leave the arm out with data.roles.arms."
        )
        yield Finding("overlap", text)


def unrepeated(schema: UpliftSchema, declared: Collection[str], num_train_rows: int) -> tuple[Finding, ...]:
    """Columns of names or e-mail addresses, which a reader takes for categories.

    Args:
        schema: names.
        declared: columns that were declared categorical, about which nothing is found.
        num_train_rows: rows that the categories come from.
    """
    found = []
    for name, values in zip(schema.categorical, schema.categories, strict=True):
        count = len(values)
        if name not in declared and count > _MANY_NAMES and count * _REPEATS > num_train_rows:
            text = (
                f"feature {name!r} has {count:,} different names in {num_train_rows:,} training rows: a name that"
                " hardly repeats teaches nothing. Leave the column out (data.roles.drop), write dates as days and"
                " numbers as numbers, or declare it in data.roles.categorical."
            )
            found.append(Finding("names", text, name))
    return tuple(found)


def _mute(schema: UpliftSchema, rows: ExperimentRows) -> Iterator[Finding]:
    """One finding, which is only told, for all features with one value: an export may have lost the others."""
    names = []
    for name, values in features_of(schema, rows):
        if len(values) > 1 and ((values == values[0]).all() or np.isnan(values).all()):
            names.append(name)
    if names:
        shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
        text = f"features {shown} are empty or the same in every training row and tell nothing; look at the export."
        yield Finding("constant", text, stops=False)


def _leaks(schema: UpliftSchema, rows: ExperimentRows, checks: Mapping[str, float]) -> Iterator[Finding]:
    for name, values in features_of(schema, rows):
        found = None
        for y, outcome in enumerate(schema.outcomes):
            target = rows.outcome[:, y].astype(np.float64)
            score = values if name in schema.numeric else rates_of_others(values.astype(np.int64), target)
            how = _leak(score, target, outcome.kind, checks)
            if how is not None:
                text = (
                    f"feature {name!r} {how.format(outcome=repr(outcome.name))}: it gives the outcome away, and would"
                    f" not be known before the campaign. Leave it out with data.roles.drop=[{name}]."
                )
                found = Finding("leak", text, name)
                break
            if name in schema.numeric and found is None and _outcome_like(values, target):
                text = (
                    f"feature {name!r} is 0 or empty for nearly all customers, and goes with {outcome.name!r}"
                    " without exception: if it happened after the campaign, it is an outcome; list it in"
                    f" data.roles.outcomes, or leave it out with data.roles.drop=[{name}]."
                )
                found = Finding("outcome_like", text, name)
        if found is not None:
            yield found


def _leak(values: np.ndarray, target: np.ndarray, kind: str, checks: Mapping[str, float]) -> str | None:
    """In what way a feature gives the outcome away, or None."""
    there = np.isfinite(values)
    if not there.any():
        return None
    happened = target != 0
    if happened.sum() >= _FEW:
        equal = np.isclose(values, target, rtol=1e-3, atol=0) & there
        if equal[there].mean() > 1 - 1e-2 and equal[happened].mean() > 0.95:
            return "equals {outcome}"
    if kind != "continuous" and _FEW <= happened.sum() <= len(target) - _FEW:
        # An empty cell may tell, too: it counts as the lowest value.
        auc = rank_auc(np.where(there, values, values[there].min() - 1), happened)
        if max(auc, 1 - auc) > checks["leak_auc"]:
            return "tells whether {outcome} is above 0 (AUC " + f"{max(auc, 1 - auc):.3f})"
    if there.sum() > 2 * _FEW and kind != "binary":
        r2 = _explained(values[there], target[there])
        if r2 > checks["leak_r2"]:
            return "explains {outcome} alone (R2 " + f"{r2:.3f})"
    return None


def _explained(values: np.ndarray, target: np.ndarray) -> float:
    """Share of the variance that the feature explains alone: linearly, or by the means of 20 bins of equal size."""
    total = target.var()
    if total == 0 or values.min() == values.max():
        return 0.0
    linear = float(np.corrcoef(values, target)[0, 1] ** 2)
    order = np.argsort(values, kind="stable")
    bins = np.array_split(order, min(20, len(order) // _FEW))
    # Left-out rows would be fairer; with ten rows or more a bin, the share that chance explains stays far below .9.
    between = sum(len(part) * (target[part].mean() - target.mean()) ** 2 for part in bins) / len(target)
    return max(linear, float(between / total))


def _outcome_like(values: np.ndarray, target: np.ndarray) -> bool:
    """Whether a column that is nearly always 0 or empty implies the outcome, or is implied by it, without exception."""
    there, happened = np.isfinite(values) & (values != 0), target > 0
    if there.mean() > 0.2 or min(there.sum(), happened.sum()) < 3 * _FEW or happened.mean() > 0.5:
        return False
    return bool(happened[there].all() or there[happened].all())


def features_of(schema: UpliftSchema, rows: ExperimentRows) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values [N] of each feature; categories as their numbers."""
    for f, name in enumerate(schema.numeric):
        yield name, rows.numeric[:, f].astype(np.float64)
    for j, name in enumerate(schema.categorical):
        yield name, rows.categorical[:, j].astype(np.float64)
