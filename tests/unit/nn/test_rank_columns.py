"""Ranks of numeric columns."""

import numpy as np
import torch

from wanamaker.nn.rank_columns import RankedFeatureEncoder

SPREAD = 12**0.5


def test_ranks_are_mid_ranks_of_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.lognormal(size=6400), np.where(rng.random(6400) < 0.75, 0.0, rng.exponential(size=6400))], 1)
    levels = np.linspace(0, 1, 129)
    quantiles = [np.quantile(values[:, f], levels).tolist() for f in range(2)]
    encoder = RankedFeatureEncoder(2, (3,), pieces=4)
    encoder.fit(values.mean(0).tolist(), values.std(0).tolist(), [0.0, 0.0], quantiles)
    asked = torch.tensor([[0.0, 0.0], [1.0, 0.0], [values[:, 0].max() * 2, 50.0], [float("nan"), 1.0]])
    encoded = encoder(asked, torch.ones(4, 1, dtype=torch.int64))
    assert encoded.shape == (4, encoder.width) == (4, 2 * (2 + 4) + 3 + 2)
    ranks = encoded[:, -2:] / SPREAD + 0.5
    expected = [
        [(values[:, f] < v).mean() / 2 + (values[:, f] <= v).mean() / 2 for v in asked[:, f].tolist()] for f in (0, 1)
    ]
    np.testing.assert_allclose(ranks[:3, 0], expected[0][:3], atol=0.02)
    np.testing.assert_allclose(ranks[:, 1], expected[1], atol=0.02)
    np.testing.assert_allclose(ranks[3, 0], (values[:, 0] < values[:, 0].mean()).mean(), atol=0.02)


def test_ranks_rise_with_the_value() -> None:
    encoder = RankedFeatureEncoder(1)
    steps = [0.0] * 20 + [1.0] * 10 + list(np.linspace(1, 9, 35))
    encoder.fit([2.0], [2.0], [0.0], [steps])
    ranks = encoder.rank_of(torch.linspace(-1, 10, 500)[None])
    assert (ranks.diff() >= 0).all()
    assert ranks.min() >= 0
    assert ranks.max() <= 1
    assert encoder.rank_of(torch.tensor([[0.5]])) > encoder.rank_of(torch.tensor([[0.0]]))
