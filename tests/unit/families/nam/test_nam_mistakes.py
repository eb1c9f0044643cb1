"""What the neural mix cannot be trained with is told where it enters: value, place and remedy."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from panel_example import TAPS, all_rows, panel_example

from wanamaker.errors import UserError
from wanamaker.families.nam import NamNet, constraints, losses
from wanamaker.families.nam.module import NamModule

NET = {
    "unknown carry-over": ({"adstock": "geometrc"}, "model.net.adstock: default='geometrc' is unknown"),
    "unknown saturation": ({"saturation": {"default": "hil"}}, "model.net.saturation: default='hil' is unknown"),
    "no monotone units": ({"monotone_hidden": []}, r"monotone_hidden=\[\]: .* at least 3"),
    "too few monotone units": ({"monotone_hidden": [9, 2]}, r"monotone_hidden=\[9, 2\]"),
    "one width": ({"free": {"hidden": 16}}, "free.hidden=16: give a list"),
    "half a unit": ({"free": {"hidden": [1.5]}}, r"free.hidden=\[1.5\]"),
    "unknown first layer": ({"free": {"first": "foo"}}, "free.first=foo: .*Choose from: exu, plain"),
    "misspelt activation": ({"free": {"activation": "rellu"}}, "Did you mean 'relu'"),
    "certain dropout": ({"free": {"dropout": 1}}, "free.dropout=1: give a probability"),
    "word for dropout": ({"free": {"feature_dropout": "x"}}, "free.feature_dropout=x"),
    "no net scale": ({"free": {"net_scale": 0}}, "free.net_scale=0: give a number above 0"),
    "negative net scale": ({"free": {"net_scale": -1}}, "free.net_scale=-1"),
    "misspelt pooling": ({"pooling": {"mode": "parial"}}, "pooling.mode=parial: .*'partial'"),
    "no spread": ({"pooling": {"spread": 0}}, "pooling.spread=0: give a number above 0"),
    "word for a switch": ({"pooling": {"series": "no"}}, "pooling.series=no: give true or false"),
    "weights without use": (
        {"pooling": {"weights": {"category": 1.0}}},
        "no effect with mode=partial: add mode: fixed",
    ),
    "negative weight": ({"pooling": {"mode": "fixed", "weights": {"a": 2, "b": -1}}}, "at least 0 for each level"),
    "prior of one number": ({"priors": {"effect": 0.1}}, "priors.effect=0.1: give two numbers"),
    "median of 0": ({"priors": {"half_life": [0, 1]}}, r"priors.half_life=\[0, 1\]: .*both above 0"),
    "negative spread": ({"priors": {"price": [1.5, -1]}}, r"priors.price=\[1.5, -1\]"),
    "no deviation": ({"priors": {"trend": [0.1, 0]}}, "the standard deviation above 0"),
    "prior of words": ({"priors": {"noise": ["a", "b"]}}, "priors.noise="),
}

CONSTRAINTS = {
    "no bounds": (lambda: constraints.MinimumRoi({"tv": 3}), "roi.tv=3: give bounds"),
    "open on both sides": (lambda: constraints.MinimumRoi({"tv": {}}), "roi.tv={}: give bounds"),
    "misspelt bound": (lambda: constraints.MinimumRoi({"tv": {"mn": 1}}), "mn is no bound; give min and max"),
    "text for bounds": (lambda: constraints.MinimumRoi({"tv": "12"}), "roi.tv=12: give bounds"),
    "no channel": (lambda: constraints.MinimumRoi({}), "channels is empty"),
    "reward": (lambda: constraints.MinimumRoi({"tv": [1, 2]}, weight=-1), "weight=-1; give a number of at least 0"),
    "bounds of nothing": (lambda: constraints.ContributionShare(), "bounds nothing"),
    "per cent for a share": (lambda: constraints.ContributionShare(media_total=[20, 40]), "5 per cent is 0.05"),
    "no grid": (lambda: constraints.Smoothness(points=2), "points=2; .* at least 3"),
    "half a grid": (lambda: constraints.ElasticityBounds({"own": [-3, 0]}, points=0), "points=0; .* at least 2"),
}

MODULE = {
    "no optimiser": ({"optimizer": None}, "model.optimizer=null"),
    "foreign loss": ({"loss": torch.nn.MSELoss()}, r"model.loss=MSELoss is no likelihood.*Gaussian, StudentT"),
    "no loss at all": ({"loss": losses.Likelihood()}, "model.loss=Likelihood is no likelihood"),
    "word for a net": ({"net": "nam"}, "model.net=nam"),
    "constraint without target": (
        {"constraints": {"roi": {"tv": [1, 2]}}},
        "model.constraints.roi=.*give it a _target_",
    ),
}

DATA = {
    "channel of another panel": ({"net": NamNet(adstock={"default": "geometric", "tvv": "delayed"})}, "channel 'tvv'"),
    "roi of nothing": ({"constraints": {"roi": constraints.MinimumRoi({"tvv": [1, 2]})}}, "did you mean 'tv'"),
    "roi of an organic channel": ({"constraints": {"roi": constraints.MinimumRoi({"mail": [1, 2]})}}, "organic"),
    "share above 1": ({"constraints": {"s": constraints.ContributionShare({"tv": [0, 20]})}}, "share.tv=.*0.05"),
    "elasticity of the wrong sign": (
        {"constraints": {"e": constraints.ElasticityBounds({"own": [0.5, 3]})}},
        r"elasticity.own=\[0.5, 3.0\]: .* at most 0",
    ),
    "block longer than the panel": ({"bootstrap_block": 99}, "bootstrap_block=99: .* 40 training periods"),
    "fractions as counts": ({"net": NamNet(link="log"), "loss": losses.Poisson()}, "model.loss=Poisson is for counts"),
    "weights of no level": (
        {"net": NamNet(pooling={"mode": "fixed", "weights": {"region": 1.0}})},
        "one weight for each level",
    ),
}


def module(net: object = None, **options) -> NamModule:
    return NamModule(**{"net": net or NamNet(members=2), "optimizer": torch.optim.Adam} | options)


def data_of(panel, **other) -> SimpleNamespace:
    """What a data module says of a panel."""
    known = {"panel": panel, "schema": panel.schema, "train_mask": all_rows(panel), "taps": TAPS, "batch_unit": "rows"}
    return SimpleNamespace(setup=lambda stage: None, **known | other)


@pytest.mark.parametrize(("options", "told"), NET.values(), ids=NET.keys())
def test_option_of_the_net(options, told):
    with pytest.raises(UserError, match=told):
        NamNet(**options)


@pytest.mark.parametrize(("make", "told"), CONSTRAINTS.values(), ids=CONSTRAINTS.keys())
def test_option_of_a_constraint(make, told):
    with pytest.raises(UserError, match=told):
        make()


@pytest.mark.parametrize(("options", "told"), MODULE.values(), ids=MODULE.keys())
def test_part_of_another_kind(options, told):
    with pytest.raises(UserError, match=told):
        module(**options)


@pytest.mark.parametrize(("options", "told"), DATA.values(), ids=DATA.keys())
def test_what_only_data_and_model_show(options, told):
    with pytest.raises(UserError, match=told):
        module(**options).preflight(data_of(panel_example()), ["fit"])


@pytest.mark.parametrize(
    ("kpi", "loss", "told"),
    [
        (lambda kpi: kpi * (kpi > 1100), losses.LogNormal(), "KPI 'sales' is 0 in one of"),
        (lambda kpi: -kpi, losses.Gaussian(), "model.net.link=log: the KPI 'sales' .*model.net.link=identity"),
    ],
)
def test_kpi_that_the_likelihood_cannot_have(kpi, loss, told):
    panel = panel_example()
    with pytest.raises(UserError, match=told):
        module(NamNet(members=2, link="log"), loss=loss).preflight(
            data_of(replace(panel, kpi=kpi(panel.kpi))), ["fit", "test"]
        )


def test_counts_are_counts_and_preflight_leaves_the_net_alone():
    panel = panel_example()
    counted = module(NamNet(members=2, link="log"), loss=losses.NegativeBinomial())
    counted.preflight(data_of(replace(panel, kpi=np.round(panel.kpi))), ["fit"])
    assert not counted.net.built


def test_whole_series_are_for_another_family():
    with pytest.raises(UserError, match=r"data.batch_unit=series: .*data.batch_unit=rows"):
        module().preflight(data_of(panel_example(), batch_unit="series"), ["fit"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"net": {"link": "log"}}, "model.net.link is log here and identity there"),
        ({"net": {"free": {"activation": "relu"}}}, "model.net.free.activation is relu here and gelu there"),
        ({"net": {"adstock": {"tv": "delayed", "default": "geometric"}}}, "model.net.adstock is"),
        ({"loss": losses.StudentT()}, "model.loss is StudentT here and Gaussian there"),
    ],
)
def test_checkpoint_whose_numbers_mean_something_else(options, told):
    """Tensors of the same sizes fit and would be read as what they are not."""
    trained = module(NamNet(members=2, adstock={"search": "delayed", "default": "geometric"}))
    trained.net.build(panel_example().schema)
    checkpoint = {}
    trained.on_save_checkpoint(checkpoint)
    same = {"members": 2, "adstock": trained.net.adstock}
    module(NamNet(**same)).on_load_checkpoint(checkpoint)
    other = module(NamNet(**same | options.get("net", {})), loss=options.get("loss"))
    with pytest.raises(UserError, match=told):
        other.on_load_checkpoint(checkpoint)
