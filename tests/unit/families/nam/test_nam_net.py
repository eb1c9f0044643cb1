"""The sum of shapes: anchors, directions, ensemble, and what leaves it for decisions."""

import json

import numpy as np
import pytest
import torch
from panel_example import TAPS, all_rows, batch_of, panel_example
from scipy.interpolate import CubicHermiteSpline

from wanamaker.data.media_panel import PanelSchema
from wanamaker.errors import UserError
from wanamaker.families.nam import NamNet
from wanamaker.families.nam.export import predictions_of, response_of
from wanamaker.families.nam.losses import Gaussian, LogNormal
from wanamaker.predictions import MixPredictions


def built(link: str = "identity", seed: int = 0, **options) -> tuple[NamNet, object]:
    panel = panel_example()
    torch.manual_seed(seed)
    net = NamNet(members=3, link=link, **options).build(panel.schema)
    net.fit_scales(panel, all_rows(panel))
    return net.eval(), panel


def part(net: NamNet, output, name: str) -> torch.Tensor:
    return output.parts[..., net.part_names.index(name)]


def test_parts_sum_and_are_anchored():
    net, panel = built()
    batch = batch_of(panel)
    output = net(batch)
    assert output.parts.shape == (3, 160, 11)
    assert net.part_names[0] == "baseline"
    torch.testing.assert_close(output.parts.sum(-1), output.eta)
    reference = net.scales.price_reference[batch.series]
    off = batch._replace(
        media=torch.zeros_like(batch.media), price=reference, promotion=torch.zeros_like(batch.promotion)
    )
    output = net(off)
    for name in ("tv", "search", "mail", "own", "rival", "discount"):
        assert part(net, output, name).abs().max() < 1e-6, name
    # A free control is centred over the training distribution, so that the intercept alone carries the level.
    net.drivers["control"].free.nets.weights[-1].data.mul_(50)  # nets start near zero
    free = net.drivers["control"].shapes(net.driver_input("control", batch))[1]
    assert free.std() > 0.05
    assert free.mean(1).abs().max() < 0.05 * free.std()


def test_directions_hold_far_beyond_the_data():
    net, panel = built()
    grid = torch.linspace(0.2, 12.0, 200)  # prices of the panel lie between 2 and 3
    batch = batch_of(panel, np.zeros(200, dtype=int))
    for name, column, sign in (("own", 0, -1), ("rival", 1, 1)):
        price = batch.price.clone()
        price[:, column] = grid
        curve = part(net, net(batch._replace(price=price)), name)
        assert (sign * curve.diff(dim=1) > 0).all(), name
    promotion = torch.linspace(0, 2, 200)[:, None]
    assert (part(net, net(batch._replace(promotion=promotion)), "discount").diff(dim=1) > 0).all()
    control = batch.control.clone()
    control[:, 1] = torch.linspace(-20, 40, 200)
    assert (part(net, net(batch._replace(control=control)), "delivery").diff(dim=1) < 0).all()


def test_every_parameter_is_alive_at_the_start():
    net, panel = built()
    output = net(batch_of(panel))
    (output.eta.square().mean() + output.log_noise.square().mean()).backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert not dead


def test_members_do_not_see_each_other():
    net, panel = built()
    batch = batch_of(panel, np.arange(0, 160, 7))
    before = net(batch).eta.detach()
    with torch.no_grad():
        for p in net.parameters():
            if p.shape[0] == 3:
                p[1] += 0.3
    after = net(batch).eta.detach()
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] != after[1]).all()


def test_a_row_does_not_depend_on_its_batch():
    net, panel = built()
    whole = net(batch_of(panel)).parts
    one = net(batch_of(panel, np.array([83]))).parts
    torch.testing.assert_close(whole[:, [83]], one, rtol=1e-4, atol=1e-5)


def test_scales_come_from_training_rows_only():
    panel = panel_example()
    mask = all_rows(panel)
    mask[:, 30:] = False
    nets = []
    for factor in (1.0, 100.0):
        changed = panel_example()
        for name in ("kpi", "media", "spend", "price", "promotion", "control"):
            getattr(changed, name)[:, 30:] *= factor
        torch.manual_seed(0)
        net = NamNet(members=2).build(changed.schema)
        net.fit_scales(changed, mask)
        nets.append(net)
    first, second = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_exported_curves_equal_the_net(link, tmp_path):
    """What decisions rebuild from the artefact is what the net says, on the original scale."""
    net, panel = built(link)
    loss = LogNormal() if link == "log" else Gaussian()
    batch = batch_of(panel)
    with torch.no_grad():
        made = predictions_of(
            net, loss, batch, panel, np.zeros(panel.kpi.shape, np.int64), response_of(net, loss, TAPS)
        )
        output = net(batch)
    made.write(tmp_path)
    found = MixPredictions.read(tmp_path)
    np.testing.assert_array_equal(found.parts, made.parts)
    assert found.part_names == net.part_names
    response = found.response
    scale = net.scales.kpi_scale[batch.series].double()
    if link == "identity":
        mean = (output.eta.double() * scale).numpy()
    else:
        mean = (output.eta.double().exp() * scale * (0.5 * torch.exp(2 * output.log_noise.double())).exp()).numpy()
    np.testing.assert_allclose(found.draws, mean, rtol=1e-4, atol=1e-2)
    # Media: the parts from the artefact's own kernel, curve and amplitude.
    series = found.series
    unit = scale.numpy()[None] if link == "identity" else 1.0
    for c, name in enumerate(response.channels):
        scaled = batch.media[:, :, c].double().numpy() / response.media_scale[series, c][:, None]
        carried = np.einsum("bl,sl->sb", scaled, response.adstock[:, c])
        for s in range(3):
            value = CubicHermiteSpline(response.grid[c], response.curve[s, c], response.slope[s, c])(carried[s])
            own = part(net, output, name)[s].double().numpy() * (unit[0] if link == "identity" else 1.0)
            np.testing.assert_allclose(
                response.amplitude[s, series, c] * value, own, rtol=2e-3, atol=1e-4 * abs(own).max()
            )
    for d, name in enumerate(response.drivers):
        z = found.driver[:, d] / response.driver_reference[series, d]
        z = np.log(z) if response.driver_transform[d] == "log_ratio" else z
        for s in range(3):
            value = CubicHermiteSpline(
                response.driver_grid[d], response.driver_curve[s, d], response.driver_slope[s, d]
            )(z)
            own = part(net, output, name)[s].double().numpy() * (unit[0] if link == "identity" else 1.0)
            gain = response.driver_amplitude[s, series, d]
            np.testing.assert_allclose(gain * value, own, rtol=5e-3, atol=2e-3 * abs(own).max())


def test_schema_survives_a_checkpoint():
    schema = panel_example().schema
    again = PanelSchema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema


def test_wrong_options_are_told():
    for options, said in (
        ({"link": "logit"}, "choose from identity, log"),
        ({"members": 0}, "at least one"),
        ({"priors": {"halflife": (1, 1)}}, "halflife is unknown"),
        ({"pooling": {"modes": "x"}}, "modes is unknown"),
    ):
        with pytest.raises(UserError, match=said):
            NamNet(**options)


def test_dead_series_are_told():
    panel = panel_example()
    panel.kpi[2] = 0
    net = NamNet(members=1).build(panel.schema)
    with pytest.raises(UserError, match="s2 is 0 in the whole training window"):
        net.fit_scales(panel, all_rows(panel))
    mask = all_rows(panel)
    mask[1] = False
    with pytest.raises(UserError, match="s1 have no observed KPI"):
        net.fit_scales(panel, mask)


def test_dropout_is_a_function_of_the_row_and_the_step():
    net, panel = built(free={"dropout": 0.3, "feature_dropout": 0.3})
    net.train()
    net.drivers["control"].free.nets.weights[-1].data.mul_(50)  # nets start near zero
    batch = batch_of(panel)
    first, again, other = (net(batch, batch.row * 7 + step).parts for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    half = np.arange(0, 160, 2)
    part_of = net(batch_of(panel, half), batch.row[half] * 7 + 1).parts
    torch.testing.assert_close(part_of, first[:, half], rtol=1e-4, atol=1e-5)
    assert torch.equal(net(batch).parts, net.eval()(batch).parts)
