"""The density is Pyro's, and integrating coefficients out changes nothing but the number of parameters.

Axis letters: N draws, D unconstrained numbers, G series, T periods, P fixed columns, M columns of known sign,
Q = P + M, V shared coefficients.
"""

import pyro
import pytest
import torch
from mix_case import built, normal, panel_case, points, some_rows
from torch import Tensor
from torch.distributions import LogNormal, NegativeBinomial, Normal, StudentT, biject_to

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.checks import check_idle_options
from wanamaker.families.bayesian_mmm.collapsed import FixedGram, Solved, collapsed, draw_coefficients, gram
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.posterior_draws import replicate, series_likelihoods

OPTIONS = [
    {"collapse": "all"},
    {"collapse": "series"},
    {"collapse": "none"},
    {"collapse": "all", "link": "log", "noise_by_size": True, "pooling": False},
    {"likelihood": "student_t"},
    {"likelihood": "student_t", "link": "log", "noise_by_size": True},
    {"likelihood": "negative_binomial", "link": "log"},
]


def names(options: dict) -> str:
    return " ".join(map(str, options.values()))


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_density_is_that_of_the_pyro_model(options: dict) -> None:
    counts = options.get("likelihood") == "negative_binomial"
    model, data = built(panel_case(counts=counts), **options)
    u = points(model)
    expected = []
    for row in u:
        values = model.flat.constrain(row)
        conditioned = pyro.poutine.condition(model.pyro_model, values)
        trace = pyro.poutine.trace(conditioned).get_trace(data)
        transforms = {s.name: biject_to(s.distribution().support) for s in model.flat.sites}
        jacobian = sum(
            transforms[name].log_abs_det_jacobian(part, values[name]).sum()
            for name, part in model.flat.split(row).items()
        )
        expected.append(trace.log_prob_sum() + jacobian)
    torch.testing.assert_close(model.log_density(u, data), torch.stack(expected), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_gradients_are_finite_and_exact(options: dict) -> None:
    counts = options.get("likelihood") == "negative_binomial"
    model, data = built(panel_case(series=3, periods=25, counts=counts), **options)
    u = points(model, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_density(u, data).sum(), u)
    assert torch.isfinite(gradient).all()
    direction, step = normal(1, model.flat.dim, seed=8), 1e-6
    with torch.no_grad():
        numeric = model.log_density(u + step * direction, data) - model.log_density(u - step * direction, data)
    torch.testing.assert_close((gradient * direction).sum(-1), numeric / (2 * step), rtol=1e-5, atol=1e-4)


def by_hand(model: MixModel, theta: dict[str, Tensor], data: PanelTensors) -> Tensor:
    """Log likelihood [N] of collapse="none", from the formula of the model, cell by cell."""
    out = []
    for n in range(len(theta["shared"])):
        one = {name: value[n : n + 1] for name, value in theta.items()}
        pieces = model.pieces(one, data)
        P, Q = len(model.columns.fixed), model.num_columns
        w, z = one["shared"][0], one["deviation"][0].reshape(-1, Q)
        levels = torch.tensor(model.levels["category"])
        kinds = ["intercept" if k == "baseline" else k for k in model.columns.fixed_kind]
        total = torch.zeros(())
        for g in range(data.num_series):
            b = torch.cat([torch.zeros(P), pieces.effect[0]])
            c = b.double().clone()
            c[:P] += w[:P] * model.shared_sd
            for suffix, unit in (("_category", w[P:].reshape(2, Q)[levels[g]]), ("", z[g])):
                fixed = torch.cat([one[f"{kind}_spread{suffix}"][0] for kind in kinds])
                relative = torch.cat([one[f"media_spread{suffix}"][0], one[f"driver_spread{suffix}"][0]])
                c = c + torch.cat([fixed, relative * pieces.effect[0]]) * unit
            eta = data.fixed[g] @ c[:P] + pieces.columns[0, g].T @ c[P:]
            keep = data.mask[g] > 0
            if model.likelihood == "negative_binomial":
                mean, size = eta.exp() * data.kpi_scale[g], 1 / one["dispersion"][0]
                count = (data.y[g].exp() * data.kpi_scale[g]).round()
                value = NegativeBinomial(size, logits=mean.log() - size.log()).log_prob(count)
            elif model.likelihood == "student_t":
                value = StudentT(one["dof"], eta, one["noise"]).log_prob(data.y[g]).flatten()
            else:
                value = Normal(eta, one["noise"]).log_prob(data.y[g]).flatten()
            total = total + value[keep].sum()
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize("likelihood", ["normal", "student_t", "negative_binomial"])
def test_likelihood_by_hand(likelihood: str) -> None:
    link = "log" if likelihood == "negative_binomial" else "identity"
    panel = panel_case(counts=likelihood == "negative_binomial")
    if likelihood == "negative_binomial":
        panel.kpi[1, 3] = 0.0  # a count may be 0
    model, data = built(panel, likelihood=likelihood, link=link, collapse="none")
    theta = model.flat.constrain(points(model))
    expected = by_hand(model, theta, data)
    torch.testing.assert_close(model.log_likelihood(theta, data), expected, rtol=1e-9, atol=1e-7)


def solved_both(model: MixModel, theta: dict[str, Tensor], data: PanelTensors) -> tuple[Solved, object]:
    pieces = model.pieces(theta, data)
    products = gram(pieces.columns, data.fixed, data.y, data.mask, FixedGram(data.ff, data.fy, data.yy))
    shared = model.shared(theta, pieces.effect, data)
    N, P = pieces.effect.shape[0], len(model.columns.fixed)
    known = torch.cat([pieces.effect.new_zeros(N, P), pieces.effect], dim=-1)
    return collapsed(products, known, pieces.spread, pieces.sigma, shared), shared


@pytest.mark.parametrize("levels", [True, False])
def test_chibs_identity(levels: bool) -> None:
    """log p(y | theta) = log p(y | theta, c) + log p(c) - log p(c | y, theta) at any coefficients c = (w, z)."""
    panel = panel_case(levels=levels)
    models = {kind: built(panel, collapse=kind) for kind in ("all", "series", "none")}
    data = models["all"][1]
    sites = {kind: model.flat for kind, (model, _) in models.items()}
    u = points(models["all"][0])
    theta = sites["all"].constrain(u)
    whole = models["all"][0].log_likelihood(theta, data)
    solved, shared = solved_both(models["all"][0], theta, data)
    N, V, G, Q = 3, shared.size, data.num_series, models["all"][0].num_columns
    for seed in range(2):
        noise_w, noise_z = 1.5 * normal(N, V, seed=10 + seed), 1.5 * normal(N, G, Q, seed=20 + seed)
        w, z = draw_coefficients(solved, shared, noise_w, noise_z)
        # log p(w | y, theta) of w = mean + L'^-1 noise, and of z given w alike
        roots = solved.shared_factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        posterior_w = Normal(0.0, 1.0).log_prob(noise_w).sum(-1) + roots
        inner = solved.factor.diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))
        posterior_z = Normal(0.0, 1.0).log_prob(noise_z).sum((-2, -1)) + inner
        prior_w, prior_z = Normal(0.0, 1.0).log_prob(w).sum(-1), Normal(0.0, 1.0).log_prob(z).sum((-2, -1))
        series = models["series"][0].log_likelihood(theta | {"shared": w}, data)
        torch.testing.assert_close(whole, series + prior_w - posterior_w, rtol=1e-10, atol=1e-8)
        none = models["none"][0].log_likelihood(theta | {"shared": w, "deviation": z.flatten(1)}, data)
        torch.testing.assert_close(series, none + prior_z - posterior_z, rtol=1e-10, atol=1e-8)
        # and the densities with their priors: the parameters come first, in the same order
        longer = torch.cat([u, w], -1)
        given_w = models["series"][0].log_density(longer, data) - posterior_w
        torch.testing.assert_close(models["all"][0].log_density(u, data), given_w, rtol=1e-10, atol=1e-8)
        longest = torch.cat([longer, z.flatten(1)], -1)
        given_z = models["none"][0].log_density(longest, data) - posterior_w - posterior_z
        torch.testing.assert_close(models["all"][0].log_density(u, data), given_z, rtol=1e-10, atol=1e-8)


def test_one_series_has_no_deviations() -> None:
    panel = panel_case(series=1, levels=False)
    models = [built(panel, collapse=kind) for kind in ("all", "series", "none")]
    assert not any("spread" in s.name for s in models[0][0].flat.sites)
    assert models[1][0].flat.dim == models[2][0].flat.dim == models[0][0].flat.dim + models[0][0].num_shared
    u = points(models[1][0])
    torch.testing.assert_close(models[1][0].log_density(u, models[1][1]), models[2][0].log_density(u, models[2][1]))


def test_rows_that_are_not_learnt_from_do_not_count() -> None:
    panel = panel_case()
    learnt = some_rows(panel)
    wild = panel_case()
    wild.kpi[~learnt] = float("nan")
    wild.control[~learnt] = 1e3
    first, second = built(panel, learnt), built(wild, learnt)
    u = points(first[0])
    torch.testing.assert_close(first[0].log_density(u, first[1]), second[0].log_density(u, second[1]))


def test_unpooled_series_respond_alike() -> None:
    model, data = built(panel_case(), pooling=False)
    assert model.num_shared == len(model.columns.fixed)
    assert not any("spread" in s.name for s in model.flat.sites)
    assert (model.pieces(model.flat.constrain(points(model)), data).spread == 0).all()


def test_noise_by_size() -> None:
    model, data = built(panel_case(), noise_by_size=True)
    theta = model.flat.constrain(points(model))
    sigma = model.pieces(theta, data).sigma
    relative = data.kpi_scale / data.kpi_scale.mean()
    torch.testing.assert_close(sigma, theta["noise"] * relative ** -theta["noise_size"], rtol=1e-6, atol=0)


def test_series_likelihoods_leave_the_deviations_out() -> None:
    model, data = built(panel_case())
    u = points(model)
    theta = model.flat.constrain(u)
    pieces = model.pieces(theta, data)
    P = len(model.columns.fixed)
    w = normal(3, model.num_shared, seed=4)
    common = torch.cat([torch.zeros(3, P), pieces.effect], -1).unsqueeze(1)
    common = common + model.from_shared(w, model.shared(theta, pieces.effect, data))
    found = series_likelihoods(model, u, common, data, chunk=2)
    series, _ = built(panel_case(), collapse="series")
    expected = series.series_log_likelihood(theta | {"shared": w}, data)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("options", OPTIONS[2:], ids=names)
def test_replicates_follow_the_likelihood(options: dict) -> None:
    counts = options.get("likelihood") == "negative_binomial"
    options = {"collapse": "none"} | options
    model, data = built(panel_case(series=2, levels=False, counts=counts), some_rows(panel_case(series=2)), **options)
    one = points(model, 1, spread=0.1)
    theta = model.flat.constrain(one)
    coefficients = 0.1 * normal(1, 2, model.num_columns, seed=3)
    S = 4000
    found = replicate(model, one.expand(S, -1), coefficients.expand(S, -1, -1), data, seed=1, chunk=1000).double()
    pieces = model.pieces(theta, data)
    eta, scale = model.linear_predictor(pieces, coefficients, data)[0], data.kpi_scale[:, None]
    sigma = pieces.sigma[0][:, None]
    if model.likelihood == "negative_binomial":
        mean = eta.exp() * scale
        variance = mean + theta["dispersion"] * mean.square()
    elif model.likelihood == "student_t":
        value = (found / scale).log() if model.link == "log" else found / scale
        quantile = ((value - eta) / sigma).flatten(1)
        dof = float(theta["dof"])
        assert dof > 4.5
        spread = quantile.square().mean()
        assert float(spread) == pytest.approx(dof / (dof - 2), rel=0.05)
        assert (quantile.mean(0).abs() < 5 * (dof / (dof - 2) / S) ** 0.5).all()
        return
    elif model.link == "log":
        noise = LogNormal(eta, sigma.expand_as(eta))
        mean, variance = noise.mean * scale, noise.variance * scale.square()
    else:
        mean, variance = eta * scale, (sigma * scale).square().expand_as(eta)
    assert ((found.mean(0) - mean).abs() < 5 * (variance / S).sqrt()).all()
    torch.testing.assert_close(found.var(0), variance, rtol=0.25, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": "logit"}, "model.net.link='logit': choose from identity, log"),
        ({"likelihood": "poisson"}, "model.net.likelihood='poisson': choose from normal, student_t, negative_binomial"),
        ({"media_scale": "max"}, "model.net.media_scale='max'"),
        ({"collapse": "some"}, "model.net.collapse='some': choose from auto, all, series, none"),
        ({"likelihood": "negative_binomial"}, "needs model.net.link=log"),
        ({"likelihood": "student_t", "collapse": "all"}, "'student_t' needs collapse=none"),
        ({"priors": {"half_live": ["lognormal", 1, 1]}}, "model.net.priors: half_live is no prior of this model"),
        ({"priors": {"trend": ["lognormal", 1, 1]}}, "a coefficient of either sign has \\[normal, 0, sd\\]"),
        ({"priors": {"trend": ["normal", 1, 1]}}, "model.net.priors.trend"),
        ({"priors": {"half_life": ["normal", 1, 1]}}, "model.net.priors.half_life.*lies above 0"),
        ({"effect": {"prior": ["normal", 1, 1]}}, "model.net.effect.prior.*lies above 0"),
        ({"priors": {"driver_effect": {"weather": ["lognormal", 1, 1]}}}, "weather is none of delivery, discount, own"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_told(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MixModel(**options).build(panel_case().schema)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priors": {"dof": ["lognormal", 8, 1]}}, "priors.dof would change nothing.*likelihood=student_t"),
        ({"priors": {"noise_size": ["normal", 0, 1]}}, "model.net.noise_by_size=true"),
        ({"priors": {"media_spread": ["halfnormal", 1]}, "pooling": False}, "model.net.pooling=true"),
        (
            {"priors": {"noise": ["halfnormal", 1]}, "likelihood": "negative_binomial", "link": "log"},
            "counts have a dispersion",
        ),
        ({"effect": {"kind": "roi", "spend_informed": True}}, "with model.net.effect.kind=roi it would change nothing"),
        ({"effect": {"prior": ["lognormal", 1, 1], "spend_informed": True}}, "and a prior it would change nothing"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_options_that_would_change_nothing_are_told_before_a_fit(options: dict, message: str) -> None:
    model = MixModel(**options)
    with pytest.raises(UserError, match=message):
        check_idle_options(model)
    model.build(panel_case().schema)  # a checkpoint that has them can be read


def test_options_that_change_something_are_taken() -> None:
    for options in (
        {"priors": {"dof": ["lognormal", 8, 1]}, "likelihood": "student_t"},
        {"priors": {"noise": ["halfnormal", 1]}, "effect": {"spend_informed": True}},
    ):
        check_idle_options(MixModel(**options))


def test_a_kpi_that_the_link_cannot_take_is_told() -> None:
    panel = panel_case()
    learnt = some_rows(panel)
    panel.kpi[0, learnt[0].argmax()] = 0.0
    with pytest.raises(UserError, match="link=log needs a KPI above 0"):
        built(panel, learnt, link="log")
    built(panel, learnt)
    panel.media[..., 1] = 0.0
    with pytest.raises(UserError, match="Channel search has no media in the training window 2024-01-07"):
        built(panel, learnt)


def test_a_kpi_without_a_total_has_no_shares() -> None:
    panel = panel_case()
    learnt = some_rows(panel)
    panel.kpi[:] = -panel.kpi
    for options in ({}, {"effect": {"kind": "roi"}}):  # the organic channel has a share
        with pytest.raises(UserError, match=r"The KPI sales adds up to -.*model.net.effect.kind=coefficient"):
            built(panel, learnt, **options)
    built(panel, learnt, effect={"kind": "coefficient"})


def test_counts_are_whole_numbers() -> None:
    panel = panel_case(counts=True)
    learnt = some_rows(panel)
    built(panel, learnt, link="log", likelihood="negative_binomial")
    panel.kpi[0, learnt[0].argmax()] += 0.5
    with pytest.raises(UserError, match=r"and no count \(1 rows in training\).*data.roles.kpi"):
        built(panel, learnt, link="log", likelihood="negative_binomial")
