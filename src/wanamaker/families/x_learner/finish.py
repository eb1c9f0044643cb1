"""What is computed once from a stage's best weights: limits and scales of the targets, calibration of the effects.

Axis letters: n rows of the sample, A offers, Y outcomes, E estimates, F folds, G knots.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.uplift_batch import UpliftBatch
from wanamaker.families.x_learner.calibration import calibrate_rows, cross_fitted_knots
from wanamaker.families.x_learner.effect_net import EffectNet


def prepared(effects: EffectNet, rows: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Buffers of an effect net for these rows (see `EffectNet.prepare`), by name.

    Args:
        effects: its own buffers change as well.
        rows: treatment, outcome, weight, and out-of-fold mean and propensity.
    """
    device = effects.base.device
    rows = {name: value.to(device) for name, value in rows.items()}
    none = torch.zeros(len(rows["row"]), 0, device=device)
    batch = UpliftBatch(
        row=rows["row"],
        key=rows["row"],
        numeric=none,
        categorical=none.long(),
        treatment=rows["treatment"],
        outcome=rows["outcome"],
        weight=rows["weight"],
    )
    effects.prepare(rows["mean"], rows["propensity"], batch)
    return {
        name: getattr(effects, name).cpu().numpy() for name in ("base", "scale", "average", "common", "limits", "shift")
    }


def calibration_of(
    rows: dict[str, Tensor], mixture: np.ndarray, folds: int, choice: str, knots: int
) -> dict[str, np.ndarray]:
    """Knots of the calibration, and where it is used.

    Args:
        rows: fold, weight, known, score and the estimates [n, E, A, Y] of members that did not see the row.
        mixture: [E, A, Y].
        folds: F.
        choice: of `net.CALIBRATIONS`.
        knots: G.

    Returns:
        ``knots`` [A, Y, F, 2, G] and ``calibrates`` [A, Y].
    """
    estimates = rows["estimates"].double()
    effect = (estimates * torch.as_tensor(mixture)).sum(1)  # [n, A, Y]
    A, Y = effect.shape[1:]
    made, used = np.zeros((A, Y, folds, 2, knots)), np.zeros((A, Y), dtype=bool)
    seen = torch.ones(len(effect), dtype=torch.bool)
    for y in range(Y):
        weight = rows["weight"].double() * rows["known"][:, y]
        if not weight.sum() > 0:
            continue
        for a in range(A):
            own, score = effect[:, a, y], rows["score"][:, a, y].double()
            table = (own.numpy(), score.numpy(), weight.numpy(), rows["fold"].numpy())
            made[a, y] = cross_fitted_knots(*table, folds, knots)
            mapped = calibrate_rows(own, torch.as_tensor(made[a, y]), rows["fold"], seen)
            before, after = ((weight * (score - value).square()).sum() for value in (own, mapped))
            used[a, y] = choice == "isotonic" or (choice == "auto" and bool(after < before))
    return {"knots": made, "calibrates": used}
