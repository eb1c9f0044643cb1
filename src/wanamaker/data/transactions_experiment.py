"""From transactions to the table of an experiment: one row per customer, features, arm, outcomes, each from its window.

Axis letters: C customers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.panel_dates import day_text
from wanamaker.data.transactions_features import OUTCOMES, later_outcomes, past_features
from wanamaker.data.transactions_roles import TransactionRoles
from wanamaker.data.transactions_source import Transactions
from wanamaker.data.transactions_treatment import Treatment, assign
from wanamaker.data.transactions_windows import Windows, fit_windows
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

ID, TREATMENT = "customer", "treatment"
_NO_PAST = "no purchase in the feature window"


@dataclass(frozen=True)
class TransactionExperiment:
    """The table and how it came about.

    Attributes:
        frame: a row per customer: `customer`, features, `treatment`, outcomes.
        features: columns that were known at the cut.
        categorical: those of them that hold words.
        arms: names; the first is the control. () where customers are to be scored only.
        windows: as they lie in the data.
        left_out: customers and rows that are not in the table, by reason.
    """

    frame: pd.DataFrame
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    arms: tuple[str, ...]
    windows: Windows
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as plain values."""
        sizes = self.frame[TREATMENT].value_counts() if self.arms else {}
        return {
            "windows": {name: [day_text(w.first), day_text(w.last)] for name, w in self.windows.present.items()},
            "customers": len(self.frame),
            "arms": {arm: int(sizes.get(arm, 0)) for arm in self.arms},
            "features": list(self.features),
            "categorical": list(self.categorical),
            "left_out": self.left_out,
        }


def build_experiment(
    rows: Transactions, windows: Windows | None, treatment: Treatment, roles: TransactionRoles
) -> TransactionExperiment:
    """Cut transactions into windows and tell every customer's features, arm and outcomes.

    Args:
        rows: All of them, by time.
        windows: None: equal thirds.
        treatment: Who was treated.
        roles: Which further columns become features.

    Raises:
        UserError: windows outside the data, a definition that the data do not fit, or an arm without a customer.
    """
    windows = fit_windows(windows, int(rows.day[0]), int(rows.day[-1]))
    inside = {name: rows.take(window.holds(rows.day)) for name, window in windows.present.items()}
    left_out = {"rows outside the windows": len(rows) - sum(len(part) for part in inside.values())}

    frame, words = past_features(inside["feature"], windows.cut, roles)
    features = tuple(frame.columns)
    everyone = np.unique(rows.customer.code)
    known = frame.index.to_numpy()
    left_out[f"customers: {_NO_PAST}"] = len(everyone) - len(known)
    if windows.treatment is None:
        return _finished(frame, rows, features, words, (), windows, left_out)

    assigned = assign(inside["treatment"], treatment, roles)
    for number, why in enumerate(assigned.reasons):
        left_out[f"customers: {why}"] = int((assigned.reason[known] == number).sum())
    frame[TREATMENT] = np.array([*assigned.arms, None], dtype=object)[assigned.arm[known]]
    frame = frame.join(later_outcomes(inside["outcome"]))  # by customer code
    frame = frame[assigned.arm[known] >= 0]
    found = _finished(frame, rows, features, words, assigned.arms, windows, left_out)
    _require_arms(found, treatment)
    return found


def _finished(
    frame: pd.DataFrame,
    rows: Transactions,
    features: tuple[str, ...],
    words: list[str],
    arms: tuple[str, ...],
    windows: Windows,
    left_out: dict[str, int],
) -> TransactionExperiment:
    names = np.array(rows.customer.names, dtype=object)[frame.index.to_numpy()]
    frame = frame.reset_index(drop=True)
    frame.insert(0, ID, names)
    left_out = {why: count for why, count in left_out.items() if count}
    return TransactionExperiment(frame, features, tuple(words), arms, windows, left_out)


def _require_arms(found: TransactionExperiment, treatment: Treatment) -> None:
    sizes = found.to_dict()["arms"]
    if len(sizes) > 1 and all(sizes.values()):
        return
    empty = next((arm for arm, size in sizes.items() if not size), "treated")
    why = "; ".join(f"{count:,} {reason}" for reason, count in found.left_out.items()) or "nobody"
    raise UserError(
        f"data.treatment ({treatment.kind}): no customer is {empty!r} in the treatment window "
        f"({found.windows.treatment}); arms: {sizes}; left out: {why}. Choose another definition, or move data.windows."
    )


def outcome_roles(names: Sequence[str], unit: str) -> list[dict[str, Any]]:
    """Outcomes as `ExperimentRoles` takes them; what kind money and counts are is found in the data.

    Args:
        names: those of `OUTCOMES` that are to be learnt, in their order.
        unit: of money.

    Raises:
        UserError: an outcome that there is not, none, or one twice.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted or set(wanted) - set(OUTCOMES) or len(set(wanted)) < len(wanted):
        raise UserError(f"data.outcomes={wanted}; choose from {', '.join(OUTCOMES)}, each once at most.")
    units = {"monetary": unit, "frequency": "purchases"}
    return [
        {"name": name, "kind": "binary" if name == "conversion" else None, "unit": units.get(name, "")}
        for name in wanted
    ]
