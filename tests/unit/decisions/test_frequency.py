"""How often to reach a person: the best frequency, what it gains, and scenarios that change it.

Axis letters: S draws.
"""

import numpy as np
import pytest
from mix_example import example

from wanamaker.decisions.frequency import frequency_curves, frequency_table
from wanamaker.decisions.scenario import compare_scenarios
from wanamaker.errors import UserError


def test_the_best_frequency_is_where_the_derivative_vanishes() -> None:
    predictions = example(frequency=True, seed=3)
    (curve,) = frequency_curves(predictions)
    assert curve.channel == "TV"
    closed = predictions.response.frequency_half[:, 0] * 1.5 ** (1 / 2.5)  # h (s - 1)^(1/s)
    np.testing.assert_allclose(curve.best_draws, closed, atol=curve.frequency[1] - curve.frequency[0])
    assert closed.min() <= curve.best <= closed.max()
    assert curve.seen[0] >= 1
    assert not curve.extrapolated
    # what contacts bring at another frequency, from the definition
    contacts, often = predictions.media[:, 0], predictions.frequency[:, 0]
    for draw, half in enumerate(predictions.response.frequency_half[:, 0]):
        worth = [f**1.5 / (f**2.5 + half**2.5) for f in (often, curve.best)]
        assert curve.gain[draw] == pytest.approx(worth[1] * contacts.sum() / (worth[0] * contacts).sum() - 1, rel=1e-9)
    (row,) = frequency_table([curve]).to_dict("records")
    assert row["frequency"] == pytest.approx(np.average(often, weights=contacts))
    assert row["best_frequency_low_90"] < row["best_frequency"] < row["best_frequency_high_90"]
    assert row["gain"] > 0


def test_nothing_to_say_where_contacts_count_alike() -> None:
    assert frequency_curves(example()) == []


@pytest.mark.parametrize("adstock_first", [True, False])
def test_a_scenario_changes_how_often_the_same_contacts_come(adstock_first: bool) -> None:
    predictions = example(frequency=True, adstock_first=adstock_first)
    best = frequency_curves(predictions)[0].best
    asked = {"best": {"frequency": {"TV": {"set": best}}}, "often": {"frequency": {"TV": {"set": 12}}}}
    results = compare_scenarios(predictions, asked, periods=20)
    frame = results.to_frame().set_index("scenario")
    assert (frame["spend_change"] == 0).all()
    assert frame.loc["best", "kpi_change"] > 0 > frame.loc["often", "kpi_change"]
    assert not frame.loc["best", "extrapolates"]
    inputs = results.by_input().set_index("scenario")
    assert inputs.loc["best", "kind"] == "frequency"
    assert inputs.loc["best", "with_scenario"] == pytest.approx(best)
    # By hand: the media of the window count by their new frequency, all else as it was.
    response, window = predictions.response, results.window
    lag, H = window.history.shape[1], window.num_periods
    x = np.concatenate([window.history, window.spend, window.tail_media], axis=1)[..., 0] / response.media_scale[:, :1]
    often = window.frequency[..., 0].copy()
    parts = []
    for times in (often, np.where((np.arange(x.shape[1]) >= lag) & (np.arange(x.shape[1]) < lag + H), best, often)):
        weighted = x * response.contact_value(0, times)  # [S, G, ...]
        shaped = weighted if adstock_first else 1 - np.exp(-weighted)
        taken = np.stack([shaped[..., lag - k : shaped.shape[-1] - k] for k in range(lag + 1)])
        carried = np.einsum("sl,lsgt->sgt", response.adstock[:, 0], taken)
        parts.append(response.amplitude[:, :, :1] * (1 - np.exp(-carried) if adstock_first else carried))
    change = (parts[1] - parts[0]).sum((1, 2))
    np.testing.assert_allclose(results.outcomes[0].change.sum(1), change, rtol=2e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"TV": {"set": 0.5}}, "a person who is reached at all is reached once"),
        ({"TV": {"total": 5}}, "total is money"),
        ({"Search": {"set": 2}}, "no channel with a curve over frequency 'Search'"),
    ],
)
def test_frequencies_that_cannot_be(words: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare_scenarios(example(frequency=True), {"other": {"frequency": words}}, periods=10)


def test_a_model_without_the_curve_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"model\.net\.frequency=hill"):
        compare_scenarios(example(), {"other": {"frequency": {"TV": {"set": 2}}}}, periods=10)
