import base64
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wanamaker.reporting.figures import house_figure
from wanamaker.reporting.page import (
    HALF,
    Figure,
    Section,
    Table,
    Tile,
    compact,
    figures_of,
    number,
    picture,
    render_page,
    save_pictures,
)


def drawn(name: str, **options: object) -> Figure:
    with house_figure(HALF, 2.0) as (figure, axes):
        axes.plot([0, 1.234567], [2, 3])
        axes.set_title("A title")
        return picture(figure, name, "A line <rising>.", "How to read it.", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    return [drawn("one"), drawn("two", choice="North"), drawn("three", choice="South & East")]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1234567, "EUR", "1.23 million EUR"),
        (2.5e9, "", "2.50 billion"),
        (1234, "", "1,234"),
        (12345.6, "units", "12,346 units"),
        (20, "", "20"),
        (1.234, "", "1.23"),
        (0.01234, "", "0.0123"),
        (-0.5, "", "-0.500"),
        (0, "EUR", "0 EUR"),
        (float("nan"), "EUR", "–"),
        (float("inf"), "", "–"),
    ],
)
def test_numbers_for_people(value: float, unit: str, shown: str) -> None:
    assert number(value, unit) == shown


def test_the_page_holds_everything_and_asks_for_nothing(figures: list[Figure]) -> None:
    frame = pd.DataFrame({"channel": ["TV <b>", "Search"], "spend": [1234567.0, 12.0], "roi": [1.5, np.nan]})
    page = render_page(
        "Title & co",
        "Media brought 12 %",
        [
            Section("First part", "Words.\n\nMore words.\n- a point\n- another", figures[:1]),
            Section("Second part", tables=[Table("Channels", frame, "A note.", {"roi": ".2f"}, {"spend": "EUR"})]),
        ],
        {"run_id": "r1", "checkpoint": None},
        {"top_series": 6, "formats": ["csv"]},
        eyebrow="Marketing mix",
        lead=["One sentence."],
        tiles=[Tile("12 %", "of sales", "90 % interval")],
        warnings=["TV hardly varies."],
        first=figures[1:],
    )
    assert page.startswith("<!doctype html>")
    assert not re.search(r"https?:|<script|<link|@import|url\(", page), "a page asks for nothing"
    assert "TV &lt;b&gt;" in page
    assert "Title &amp; co" in page
    assert "A line &lt;rising&gt;." in page
    assert "1,234,567" in page
    assert "1.50" in page
    assert "<small>EUR</small>" in page
    assert '<td class="number">–</td>' in page, "what is missing is a dash"
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page
    assert page.count("<li>a point</li>") == 1
    assert "<p>More words.</p>" in page
    assert "TV hardly varies." in page
    assert "not set" in page
    assert page.count('type="radio"') == 2
    assert page.count(" checked") == 1
    assert "South &amp; East" in page


def test_pictures_in_the_page_are_the_figures(figures: list[Figure]) -> None:
    page = render_page("t", "h", [Section("Part", figures=figures[:1])], {}, {})
    (found,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert base64.b64decode(found).decode() == figures[0].svg


def test_a_heavy_figure_is_embedded_as_png(figures: list[Figure]) -> None:
    heavy = Figure("heavy", "<svg>" + "x" * 200_000 + "</svg>", "alt", png=figures[0].png)
    page = render_page("t", "h", [Section("Part", figures=[heavy])], {}, {})
    assert "data:image/png;base64," in page
    assert len(page) < 100_000


def test_compact_svg_keeps_scales_and_pictures() -> None:
    text = '<g transform="translate(12.345678 1.5) scale(0.015625)"><image href="data:x;1.23456"/>'
    assert compact(text) == '<g transform="translate(12.34 1.5) scale(0.015625)"><image href="data:x;1.23456"/>'


def test_pictures_are_saved_once_each(tmp_path: Path, figures: list[Figure]) -> None:
    written = save_pictures([*figures, Figure("words", "<svg/>", "alt")], tmp_path / "figures")
    assert [path.name for path in written] == ["one.png", "two.png", "three.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    with pytest.raises(ValueError, match="'one'"):
        save_pictures([figures[0], figures[0]], tmp_path / "again")


def test_figures_of_sections_come_in_order(figures: list[Figure]) -> None:
    assert figures_of([Section("a", figures=figures[:2]), Section("b", figures=figures[2:])]) == figures


def test_columns_of_numbers_stand_right() -> None:
    frame = pd.DataFrame(
        {
            "date": ["2024-01-31"],
            "roi": ["1.5 (0.9 to 2.1)"],
            "money": ["774k (640k to 1.04M)"],
            "count": [3],
            "name": ["TV"],
            "paid": [True],
        }
    )
    page = render_page("t", "h", [Section("Part", tables=[Table("", frame)])], {}, {})
    right = re.findall(r'<th scope="col" class="number">(\w+)', page)
    assert right == ["roi", "money", "count"]
    assert "<td>yes</td>" in page


def test_long_tables_say_how_much_is_left_out() -> None:
    frame = pd.DataFrame({"x": range(1500)})
    page = render_page("t", "h", [Section("Part", tables=[Table("", frame, max_rows=10)])], {}, {})
    assert "and 1,490 more rows in the table files." in page
