"""Kernels against their published formulas in NumPy, and every way of computing adstock against a plain sum."""

import numpy as np
import pytest
import torch
from scipy.stats import weibull_min
from torch.autograd import gradcheck

from wanamaker.nn.adstock import (
    adstock,
    adstock_windows,
    binomial_kernel,
    delayed_kernel,
    geometric_kernel,
    weibull_cdf_kernel,
    weibull_pdf_kernel,
)

L = 9
LAGS = np.arange(L)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _delayed(decay: float, delay: float) -> np.ndarray:
    return decay ** ((LAGS - delay) ** 2)


def _weibull_cdf(shape: float, scale: float) -> np.ndarray:
    survival = 1 - weibull_min.cdf(LAGS[1:], shape, scale=scale)
    return np.cumprod(np.concatenate([[1.0], survival]))


# Name: (kernel, parameters, the published weights of one set of parameters).
KERNELS = {
    "geometric": (geometric_kernel, [(0.2, 0.7, 0.95)], lambda d: d**LAGS),
    "delayed": (delayed_kernel, [(0.2, 0.7, 0.95), (0.0, 2.3, 4.0)], _delayed),
    "binomial": (binomial_kernel, [(0.2, 0.5, 0.95)], lambda d: (1 - LAGS / L) ** (1 / d - 1)),
    "weibull_pdf": (
        weibull_pdf_kernel,
        [(0.6, 1.0, 3.0), (2.0, 0.7, 5.0)],
        lambda k, s: weibull_min.pdf(LAGS + 1, k, scale=s),
    ),
    "weibull_cdf": (weibull_cdf_kernel, [(0.6, 1.0, 3.0), (2.0, 0.7, 5.0)], _weibull_cdf),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_the_published_ones(name: str) -> None:
    kernel, parameters, published = KERNELS[name]
    expected = np.stack([published(*values) for values in zip(*parameters, strict=True)])
    tensors = [tensor(*values) for values in parameters]
    np.testing.assert_allclose(kernel(*tensors, L, normalise=False), expected, rtol=1e-10, atol=1e-12)
    weights = kernel(*tensors, L)
    np.testing.assert_allclose(weights, expected / expected.sum(1, keepdims=True), rtol=1e-10, atol=1e-12)
    assert weights.shape == (3, L)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_of_kernels(name: str) -> None:
    kernel, parameters, _ = KERNELS[name]
    tensors = [tensor(*values).requires_grad_() for values in parameters]
    assert gradcheck(lambda *values: kernel(*values, L), tensors)
    assert gradcheck(lambda *values: kernel(*values, L, normalise=False), tensors)


EDGES = {
    "geometric": [(0.0, 1e-12, 1 - 1e-12, 1.0)],
    "delayed": [(0.0, 0.0, 1e-12, 1.0, 1.0, 0.0), (0.0, 2.3, 0.5, 0.5, 8.0, 8.0)],
    "binomial": [(0.0, 1e-12, 1 - 1e-12, 1.0)],
    "weibull_pdf": [(0.05, 20.0, 20.0, 0.05), (1e-2, 0.1, 50.0, 1e3)],
    "weibull_cdf": [(0.05, 20.0, 20.0, 0.05), (1e-2, 0.1, 50.0, 1e3)],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_weights_and_gradients_stay_finite_at_the_edges(name: str, dtype: torch.dtype) -> None:
    tensors = [torch.tensor(values, dtype=dtype, requires_grad=True) for values in EDGES[name]]
    weights = KERNELS[name][0](*tensors, L)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights), dtype=dtype))
    (weights * torch.arange(L, dtype=dtype) ** 2).sum().backward()
    for parameter in tensors:
        assert parameter.grad.isfinite().all()


def test_decays_of_zero_and_one() -> None:
    edges = tensor(0.0, 1.0)
    first, flat = np.eye(L)[0], np.full(L, 1 / L)
    np.testing.assert_allclose(geometric_kernel(edges, L), [first, flat])
    np.testing.assert_allclose(binomial_kernel(edges, L), [first, flat], atol=1e-12)
    np.testing.assert_allclose(delayed_kernel(edges, tensor(3.0, 3.0), L), [np.eye(L)[3], flat], atol=3e-6)


def test_one_tap_is_no_adstock() -> None:
    for kernel, parameters, _ in KERNELS.values():
        weights = kernel(*(tensor(*values) for values in parameters), 1)
        np.testing.assert_allclose(weights, np.ones((3, 1)))


def test_no_tap_is_refused() -> None:
    with pytest.raises(ValueError, match="taps=0"):
        geometric_kernel(tensor(0.5), 0)


def reference(media: np.ndarray, kernel: np.ndarray, lead_in: np.ndarray | None = None) -> np.ndarray:
    """[T, C] and [C, L], written out."""
    T, C = media.shape
    past = np.zeros((0, C)) if lead_in is None else lead_in
    series = np.concatenate([past, media])
    result = np.zeros((T, C))
    for t in range(T):
        for c in range(C):
            for lag in range(kernel.shape[1]):
                if (source := len(past) + t - lag) >= 0:
                    result[t, c] += kernel[c, lag] * series[source, c]
    return result


def _media(T: int = 23, C: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    media = torch.rand(T, C, dtype=torch.float64, generator=generator) * 100
    return media * (torch.rand(T, C, generator=generator) < 0.6)


@pytest.mark.parametrize("taps", [1, 2, 3, 7, 8, 13, 40])
@pytest.mark.parametrize("known", [None, 0, 3, 50])
def test_all_methods_are_the_plain_sum(taps: int, known: int | None) -> None:
    media, kernel = _media(), geometric_kernel(tensor(0.0, 0.6, 1.0), taps)
    lead_in = None if known is None else _media(50)[:known]
    expected = reference(media.numpy(), kernel.numpy(), None if lead_in is None else lead_in.numpy())
    for method in ("direct", "fft", "scan"):
        np.testing.assert_allclose(adstock(media, kernel, lead_in, method), expected, atol=1e-9, err_msg=method)
    # The same rows as windows, newest first.
    history = torch.zeros(taps - 1, 3, dtype=torch.float64)
    if known and taps > 1:
        usable = min(known, taps - 1)
        history[taps - 1 - usable :] = lead_in[known - usable :]
    windows = torch.cat([history, media]).unfold(0, taps, 1).flip(-1).transpose(1, 2)
    np.testing.assert_allclose(adstock_windows(windows, kernel), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["delayed", "binomial", "weibull_pdf", "weibull_cdf"])
def test_fft_and_direct_agree_for_every_kernel_with_gradients(name: str) -> None:
    kernel, parameters, _ = KERNELS[name]
    results = []
    for method in ("direct", "fft"):
        media = _media().requires_grad_()
        tensors = [tensor(*values).requires_grad_() for values in parameters]
        out = adstock(media, kernel(*tensors, L), method=method)
        (out**2).sum().backward()
        results.append([out.detach(), media.grad, *(t.grad for t in tensors)])
    for direct, fft in zip(*results, strict=True):
        torch.testing.assert_close(direct, fft, rtol=1e-8, atol=1e-6)


def test_scan_has_the_gradients_of_direct() -> None:
    results = []
    for method in ("direct", "scan"):
        media, decay = _media().requires_grad_(), tensor(0.0, 0.5, 1.0).requires_grad_()
        out = adstock(media, geometric_kernel(decay, 11), method=method)
        (out**2).sum().backward()
        results.append([media.grad, decay.grad])
    for direct, scan in zip(*results, strict=True):
        torch.testing.assert_close(direct, scan, rtol=1e-8, atol=1e-6)


def test_scan_refuses_other_kernels() -> None:
    with pytest.raises(ValueError, match="needs a geometric kernel"):
        adstock(_media(), binomial_kernel(tensor(0.3, 0.3, 0.3), 5), method="scan")


def test_members_and_series_broadcast() -> None:
    media = torch.stack([_media(), _media().flip(0)])  # [G, T, C]
    kernel = geometric_kernel(torch.rand(4, 1, 3, dtype=torch.float64), 5)  # [M, 1, C, L]
    for method in ("direct", "fft", "scan"):
        out = adstock(media, kernel, media[:, :2], method)
        assert out.shape == (4, 2, 23, 3)
        expected = reference(media[1].numpy(), kernel[2, 0].numpy(), media[1, :2].numpy())
        np.testing.assert_allclose(out[2, 1], expected, atol=1e-9)
    windows = torch.rand(6, 5, 3, dtype=torch.float64)
    assert adstock_windows(windows, kernel[:, 0]).shape == (4, 6, 3)


@pytest.mark.parametrize("method", ["direct", "fft", "scan"])
def test_no_media_means_exactly_no_adstock(method: str) -> None:
    media = torch.zeros(40, 2)
    media[5] = 1e6
    decay = torch.tensor([0.5, 0.9], requires_grad=True)
    out = adstock(media, geometric_kernel(decay, 4), method=method)
    assert (out[:5] == 0).all()
    assert (out[9:] == 0).all()
    assert (out[5:9] > 0).all()
    none = adstock(torch.zeros(40, 2), geometric_kernel(decay, 4), method=method)
    assert (none == 0).all()
    (out.sum() + none.sum()).backward()
    assert decay.grad.isfinite().all()


@pytest.mark.parametrize("method", ["direct", "fft", "scan"])
def test_normalised_adstock_conserves_the_total(method: str) -> None:
    media = torch.cat([_media(), torch.zeros(L, 3, dtype=torch.float64)])
    out = adstock(media, geometric_kernel(tensor(0.1, 0.5, 0.9), L), method=method)
    torch.testing.assert_close(out.sum(0), media.sum(0))


def test_autocast_does_not_round_money() -> None:
    windows, kernel = 1e6 + torch.rand(6, 5, 3), geometric_kernel(torch.tensor([0.3, 0.5, 0.7]), 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = adstock_windows(windows, kernel)
    torch.testing.assert_close(found, adstock_windows(windows, kernel), rtol=0, atol=0)


def test_mistakes_in_shapes_are_named() -> None:
    kernel = geometric_kernel(tensor(0.5, 0.5, 0.5), 4)
    with pytest.raises(ValueError, match="method='toeplitz'"):
        adstock(_media(), kernel, method="toeplitz")
    with pytest.raises(ValueError, match="same C"):
        adstock(_media(C=2), kernel)
    with pytest.raises(ValueError, match="lead_in"):
        adstock(_media(), kernel, lead_in=torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="same L and C"):
        adstock_windows(torch.zeros(6, 5, 3), kernel)
