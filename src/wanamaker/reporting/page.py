"""One page for a decision: headline, warnings, sections with figures and tables, in one file without any request.

`render_page` gives a complete HTML document that opens from a mail attachment, prints on A4, and has a table of
contents. Figures are drawn with matplotlib in the house style (`figures.HOUSE_STYLE`) and turned into a `Figure` by
`picture`, which keeps them as SVG (for the page) and as PNG (for slides; `save_pictures`).
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.predictions import atomic_path
from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE, RULE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

TEMPLATE = "page.html.j2"
WIDE, HALF = 10.1, 4.9  # inches: figures of this width are shown at their own size, letters as large as in the text
_PNG_DPI = 144
_LONG_SVG = 160_000
_LONG_NUMBER = re.compile(r"(-?\d+\.\d\d)\d+")
_KEEP = re.compile(r'("data:[^"]*"|scale\([^)]*\)|version="[^"]*")')
_NUMBER_FIRST = re.compile(
    r"[-+–]?([\d.,]+(k|M|bn|tn)?(\s(?!\|)|$)|$)"
)  # "1.2 (0.9 to 1.5)", or a dash; no date, no key
_PERCENT = re.compile(r"(?<=\d) ?%(?![\w\]}])")

Format = str | Callable[[Any], str]


@dataclass(frozen=True)
class Figure:
    """A figure of a page.

    Attributes:
        name: file name without ending, unique on the page.
        svg: an SVG document.
        alt: what it shows, in one sentence with its main numbers, for those who cannot see it.
        caption: below the figure: how to read it.
        png: the same as PNG bytes, for `save_pictures`; empty where there is none.
        wide: takes the whole width; two that do not stand side by side.
        choice: figures of a section that follow each other with a non-empty choice form one group of tabs, of which
            the reader picks one by this name (a series, a level); in print all show.
    """

    name: str
    svg: str
    alt: str
    caption: str = ""
    png: bytes = b""
    wide: bool = True
    choice: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a page; numbers stand right-aligned with thousands separators.

    Attributes:
        title: above the table.
        frame: rows as shown, columns named in words.
        note: below the table.
        formats: column to format spec (``",.0f"``, ``".1%"``) or function; other numbers get 3 significant digits or
            more. Missing values are shown as a dash.
        units: column to unit, shown below its name.
        max_rows: the rest is said to be in the table files.
    """

    title: str
    frame: pd.DataFrame
    note: str = ""
    formats: Mapping[str, Format] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    max_rows: int = 60


@dataclass(frozen=True)
class Section:
    """A part of a page with an entry in the table of contents.

    Attributes:
        title: heading.
        text: plain text; an empty line starts a paragraph, lines that start with "- " are a list.
        figures, tables: in the order shown, figures first.
        folded: tables are folded away until the reader opens them.
    """

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    folded: bool = False


@dataclass(frozen=True)
class Tile:
    """A key figure of the first screen.

    Attributes:
        value: with its unit.
        name: what it is.
        note: small, such as its interval.
    """

    value: str
    name: str
    note: str = ""


def picture(drawing: Drawing, name: str, alt: str, caption: str = "", *, wide: bool = True, choice: str = "") -> Figure:
    """A matplotlib figure as a `Figure` of a page; call it inside the `rc_context` that drew it (`house_figure`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from PIL import Image

    # Canvases are used directly: `savefig` lays out and draws a figure twice for each format, which is most of the
    # time that a page with many figures takes.
    drawing.set_dpi(_PNG_DPI)
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    png = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(png, format="PNG", dpi=(_PNG_DPI, _PNG_DPI))
    drawing.set_layout_engine("none")
    svg = io.StringIO()
    FigureCanvasSVG(drawing).print_svg(svg, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Figure(name, compact(svg.getvalue()), alt, caption, png.getvalue(), wide, choice)


def compact(svg: str) -> str:
    """An SVG document with coordinates of 1/100 point, which is half as long and looks the same.

    Pictures inside it (`data:`) and scales, whose factors are small numbers, are left alone.
    """
    pieces = _KEEP.split(svg)
    return "".join(piece if i % 2 else _LONG_NUMBER.sub(r"\1", piece) for i, piece in enumerate(pieces))


def save_pictures(figures: Iterable[Figure], folder: Path | str) -> list[Path]:
    """Write ``<folder>/<name>.png`` for every figure that has PNG bytes, each atomically.

    Raises:
        ValueError: two figures of one name.
        UserError: the folder cannot be written or the disk is full.
    """
    written: list[Path] = []
    for figure in figures:
        if not figure.png:
            continue
        path = Path(folder) / f"{figure.name}.png"
        if path in written:
            raise ValueError(f"Two figures are named {figure.name!r}.")
        with atomic_path(path) as temporary:
            temporary.write_bytes(figure.png)
        written.append(path)
    return written


def figures_of(sections: Iterable[Section]) -> list[Figure]:
    """All figures, in order."""
    return [figure for section in sections for figure in section.figures]


def render_page(
    title: str,
    headline: str,
    sections: Sequence[Section],
    run: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    eyebrow: str = "",
    lead: Sequence[str] = (),
    tiles: Sequence[Tile] = (),
    warnings: Sequence[str] = (),
    first: Sequence[Figure] = (),
) -> str:
    """Render a page.

    Args:
        title: of the browser's tab.
        headline: the finding, in one line.
        sections: below the first screen, each with an entry in the table of contents.
        run: what made the numbers, such as run_id, experiment and checkpoint; shown in the footer.
        settings: of the decision; shown in the footer.
        eyebrow: small line above the headline: what kind of report this is.
        lead: sentences below the headline, in plain words with units.
        tiles: key figures.
        warnings: what the reader must know before using the numbers.
        first: figures of the first screen.

    Returns:
        A complete HTML document without a request to anywhere.
    """
    import jinja2

    template = resources.files("wanamaker.reporting") / "templates" / TEMPLATE
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        title=title,
        headline=typeset(headline),
        eyebrow=eyebrow,
        lead=[typeset(sentence) for sentence in lead],
        tiles=[Tile(*(typeset(text) for text in (t.value, t.name, t.note))) for t in tiles],
        warnings=[typeset(sentence) for sentence in warnings],
        first=_groups(first, "first"),
        sections=[_section(section, number) for number, section in enumerate(sections)],
        settings=[(name.replace("_", " "), plain(value)) for name, value in {**run, **settings}.items()],
        ink=INK,
        muted=MUTED,
        rule=RULE,
        accent=ACCENT,
        alarm=PALETTE[5],
    )


def number(value: float, unit: str = "", digits: int = 3) -> str:
    """A number for people: about three significant digits, thousands separators, "million" where it helps.

    ``number(1234567, "EUR")`` is "1.23 million EUR", ``number(0.01234)`` is "0.0123", NaN is a dash.
    """
    value = float(value)
    tail = f" {unit}" if unit else ""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    for limit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if size >= limit * 0.9995:
            return f"{_digits(value / limit, digits)} {word}{tail}"
    return _digits(value, digits) + tail


def plain(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {plain(v)}" for name, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return "not set" if value is None else str(value)


def typeset(text: str) -> str:
    """Per cent as everywhere in the reports, "9.1 %" with a space that does not break, whoever wrote the sentence."""
    return _PERCENT.sub("\u00a0%", text)


def _digits(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    if value == round(value) and abs(value) < 10**digits:
        return f"{value:.0f}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 12)}f}"
    return text.rstrip("0").rstrip(".") if decimals > digits and "." in text else text


def _section(section: Section, number_: int) -> dict[str, Any]:
    return {
        "id": f"s{number_ + 1}-{re.sub(r'[^a-z0-9]+', '-', section.title.lower()).strip('-')}",
        "title": section.title,
        "blocks": _blocks(typeset(section.text)),
        "groups": _groups(section.figures, f"s{number_ + 1}"),
        "tables": [_table(table) for table in section.tables],
        "folded": section.folded,
    }


def _blocks(text: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
        items = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
        words = " ".join(line for line in lines if not line.startswith("- "))
        if words:
            blocks.append({"text": words, "bullets": []})
        if items:
            blocks.append({"text": "", "bullets": items})
    return blocks


def _groups(figures: Sequence[Figure], key: str) -> list[dict[str, Any]]:
    """Figures in rows of one or two, those with a choice in groups of tabs."""
    groups: list[dict[str, Any]] = []
    for figure in figures:
        kind = "tabs" if figure.choice else "wide" if figure.wide else "pair"
        full = groups and (kind == "wide" or (kind == "pair" and len(groups[-1]["figures"]) == 2))
        restart = groups and kind == "tabs" and figure.choice in [f["choice"] for f in groups[-1]["figures"]]
        if not groups or groups[-1]["kind"] != kind or full or restart:
            groups.append({"kind": kind, "key": f"{key}-{len(groups) + 1}", "figures": []})
        groups[-1]["figures"].append(
            {
                "src": _source(figure),
                "alt": typeset(figure.alt),
                "caption": typeset(figure.caption),
                "choice": figure.choice,
            }
        )
    return groups


def _source(figure: Figure) -> str:
    """The figure inside the page: SVG, or PNG where thousands of points would make the page too heavy for a mail."""
    if len(figure.svg) > _LONG_SVG and figure.png:
        from PIL import Image

        buffer = io.BytesIO()
        with Image.open(io.BytesIO(figure.png)) as image:
            image.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg.encode()).decode()}"


def _table(table: Table) -> dict[str, Any]:
    frame = table.frame.head(table.max_rows)
    cells = [_column(frame[name], table.formats.get(name)) for name in frame.columns]
    columns = []
    for name, column in zip(frame.columns, cells, strict=True):
        numeric = _is_number(frame[name]) or (bool(column) and all(_NUMBER_FIRST.match(cell) for cell in column))
        columns.append({"name": typeset(str(name)), "unit": table.units.get(name, ""), "number": numeric})
    left_out = len(table.frame) - len(frame)
    return {
        "title": table.title,
        "note": typeset(table.note),
        "columns": columns,
        "rows": [list(row) for row in zip(*cells, strict=True)],
        "left_out": f"{left_out:,}" if left_out else "",
    }


def _is_number(column: pd.Series) -> bool:
    import pandas.api.types as kinds

    return kinds.is_numeric_dtype(column.dtype) and not kinds.is_bool_dtype(column.dtype)


def _column(column: pd.Series, form: Format | None) -> list[str]:
    import pandas as pd

    if form is None and _is_number(column):
        form = _usual_format(column.to_numpy(dtype=float, na_value=np.nan))
    return [typeset(_cell(value, form, missing=bool(pd.isna(value)))) for value in column.tolist()]


def _cell(value: Any, form: Format | None, *, missing: bool) -> str:
    if missing:
        return "–"
    if callable(form):
        return form(value)
    if form is not None:
        return format(value, form)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value.date()) if hasattr(value, "date") and callable(value.date) else str(value)


def _usual_format(values: np.ndarray) -> str:
    """One number of decimals for the whole column, so that its points stand below each other."""
    finite = np.abs(values[np.isfinite(values) & (values != 0)])
    if finite.size == 0 or (finite == finite.round()).all():
        return ",.0f"
    decimals = 2 - math.floor(math.log10(float(np.median(finite))))
    return f",.{min(max(decimals, 0), 6)}f"
