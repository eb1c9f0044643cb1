"""Figures: the same input is the same file, and odd values are shown for what they are."""

import math

from wanamaker.reporting.figures import bar_figure, line_figure


def test_figures_are_reproducible_svg() -> None:
    curves = {"training": ([1, 2, 3], [3.0, 2.0, math.nan]), "validation": ([1], [2.5]), "none": ([1], [math.inf])}
    first = line_figure(curves, x_label="epoch", y_label="loss")
    assert first == line_figure(curves, x_label="epoch", y_label="loss")
    assert first.count("<svg") == 1
    assert "<date>" not in first


def test_bars_of_any_kind() -> None:
    assert "<svg" in bar_figure({})
    assert "<svg" in bar_figure({"a": 0.0})
    assert bar_figure({"a": 0.5, "b": math.nan}, limit=1.0, notes={"a": "3 found"}).count("<svg") == 1
