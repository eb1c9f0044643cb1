"""The attribute report: one HTML file a manager reads first, with everything in it and no request to anywhere."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from wanamaker.reporting.figures import bar_figure, line_figure
from wanamaker.reporting.style import ACCENT, INK, MUTED, RULE

if TYPE_CHECKING:
    import pandas as pd

_MAX_BARS = 30
_MAX_ROWS = 24  # of the table beside a photo
_PHOTO_SIDE = 760
# How a colour term is shown in charts; products show their own colour.
SWATCHES = {
    "black": "#1e1e20",
    "white": "#ffffff",
    "grey": "#9a9a9a",
    "red": "#c8202f",
    "orange": "#f28a1d",
    "yellow": "#f5cf2a",
    "green": "#2f8f46",
    "blue": "#2a62b8",
    "purple": "#7a45a8",
    "pink": "#ee7fae",
    "brown": "#7b4f2a",
}


class Shot(NamedTuple):
    """One photo of the gallery."""

    image_id: int
    file_name: str
    picture: Image.Image  # with boxes


def attribute_report(
    products: pd.DataFrame,
    images: pd.DataFrame,
    shots: Sequence[Shot],
    metrics: Mapping[str, float],
    run: Mapping[str, Any],
    settings: Mapping[str, Any],
    history: pd.DataFrame | None = None,
) -> str:
    """Render the report.

    Args:
        products: of `decisions.attributes.product_table`.
        images: of `decisions.attributes.image_table`.
        shots: photos to show, in order.
        metrics: by full name (`test/ap`); may be empty where there was nothing to score against.
        run: what made the predictions, such as run_id, experiment and checkpoint; shown as given.
        settings: of the decision; shown as given.
        history: `metrics.csv` of the training, for the curves; None leaves them out.

    Returns:
        A complete HTML document.
    """
    import jinja2

    template = resources.files("wanamaker.reporting") / "templates" / "detection_report.html.j2"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    counts = products["category"].value_counts()
    found, photos = len(products), len(images)
    empty = int(images["empty"].sum())
    threshold = settings.get("score_threshold", "")
    page = environment.from_string(template.read_text(encoding="utf-8")).render(
        title=f"Product attributes, run {run.get('run_id', '')}",
        headline=_headline(found, photos, len(counts)),
        summary=_summary(products, counts, photos, empty),
        tiles=_tiles(metrics, products, images),
        how_to_read=_how_to_read(metrics, threshold),
        threshold=threshold,
        categories=_category_rows(products, counts),
        counts_figure=_svg(bar_figure(_first(counts), digits=0, width=5.6)),
        counts_alt=_alt("Products by category", counts.items()),
        counts_left_out=_left_out(len(counts)),
        colours=_colours(products),
        colours_alt=_alt("Products by colour", products["colour"].value_counts().items()),
        **_class_figure(metrics, counts),
        curves=_curves(history),
        gallery=[_shot(shot, products) for shot in shots],
        gallery_note=_gallery_note(len(shots), photos),
        settings=[(_words(name), _plain(value)) for name, value in {**run, **settings}.items()],
        scores=[(name, _score(float(value))) for name, value in metrics.items()],
        ink=INK,
        muted=MUTED,
        rule=RULE,
        accent=ACCENT,
    )
    return page


def _headline(found: int, photos: int, kinds: int) -> str:
    if not found:
        return f"No products found on {_many(photos, 'photo')}"
    return f"{_many(found, 'product')} of {_many(kinds, 'category')} on {_many(photos, 'photo')}"


def _summary(products: pd.DataFrame, counts: pd.Series, photos: int, empty: int) -> str:
    does = (
        "A detector looked for products on each photo and noted, for every one it found, what it is, its main colour, "
        "how large it is, where it stands and on which shelf."
    )
    if len(products) == 0:
        return does
    top, colour = counts.index[0], products["colour"].value_counts().index[0]
    first = f"The most frequent category is {top} ({counts.iloc[0] / len(products):.0%} of all products)"
    bare = f" {_many(empty, 'photo')} show{'s' if empty == 1 else ''} no product." if empty else ""
    return f"{does} {first}, the most frequent colour {colour}.{bare}"


def _tiles(metrics: Mapping[str, float], products: pd.DataFrame, images: pd.DataFrame) -> list[dict[str, str]]:
    tiles = [
        {"value": f"{len(products):,}", "name": "products found"},
        {"value": f"{len(images):,}", "name": "photos"},
        {"value": f"{len(products) / max(len(images), 1):.1f}", "name": "products per photo"},
    ]
    for key, name in (("ap", "AP (0 to 1)"), ("ap50", "AP50 (0 to 1)")):
        value = _metric(metrics, key)
        if value is not None:
            tiles.append({"value": f"{value:.2f}", "name": name})
    if len(products):
        tiles.append({"value": f"{products['score'].mean():.2f}", "name": "mean score"})
    return tiles


def _how_to_read(metrics: Mapping[str, float], threshold: object) -> str:
    shown = f"Only detections with a score of at least {_plain(threshold)} are counted."
    if _metric(metrics, "ap") is None:
        return f"{shown} These predictions were not scored, so nothing is said here about how many are right."
    return (
        f"{shown} AP (average precision) is COCO's measure of detection, the mean over how exactly a box must fit; "
        "AP50 asks for half an overlap only. Both are measured on photos the detector did not learn from, if the test "
        "data were kept apart."
    )


def _category_rows(products: pd.DataFrame, counts: pd.Series) -> list[dict[str, Any]]:
    rows = []
    for name, count in counts.items():
        mine = products[products["category"] == name]
        colour = mine["colour"].value_counts().index[0]
        places = (mine["vertical"] + " " + mine["horizontal"]).value_counts()
        rows.append(
            {
                "name": name,
                "count": int(count),
                "photos": mine["image_id"].nunique(),
                "most": int(mine.groupby("image_id").size().max()),
                "colour": colour,
                "hex": SWATCHES[colour],
                "place": places.index[0],
                "score": float(mine["score"].mean()),
            }
        )
    return rows


def _colours(products: pd.DataFrame) -> list[dict[str, Any]]:
    counts = products["colour"].value_counts()
    total = max(int(counts.sum()), 1)
    return [
        {"name": name, "count": int(count), "share": count / total, "hex": SWATCHES[name]}
        for name, count in counts.items()
    ]


def _class_figure(metrics: Mapping[str, float], counts: pd.Series) -> dict[str, Any]:
    stage = next((s for s in ("test/", "val/", "") if any(k.startswith(f"{s}ap_class/") for k in metrics)), None)
    if stage is None:
        return {"class_figure": "", "class_alt": "", "class_left_out": ""}
    prefix = f"{stage}ap_class/"
    scores = {name.removeprefix(prefix): float(value) for name, value in metrics.items() if name.startswith(prefix)}
    # COCO's -1 and NaN both say that the category is not annotated on these photos.
    scores = {name: value if value >= 0 else math.nan for name, value in scores.items()}
    ranked = dict(sorted(scores.items(), key=lambda item: (math.isnan(item[1]), -item[1] if item[1] >= 0 else 0)))
    notes = {name: f"{int(counts.get(name, 0)):,} found" for name in ranked}
    return {
        "class_figure": _svg(bar_figure(_first(ranked), notes=notes, limit=1.0, width=5.6)),
        "class_alt": _alt("Average precision by category", ((n, _score(v)) for n, v in ranked.items())),
        "class_left_out": _left_out(len(ranked)),
    }


def _curves(history: pd.DataFrame | None) -> list[dict[str, str]]:
    """Loss and precision by epoch, of what the training has logged."""
    if history is None or "epoch" not in history:
        return []
    curves = []
    by_epoch = history.groupby("epoch").mean(numeric_only=True)
    wanted = {
        "loss": ({"training": "train/loss", "validation": "val/loss"}, "Loss while training: lower is better."),
        "precision": ({"AP": "val/ap", "AP50": "val/ap50"}, "Precision on validation photos: higher is better."),
    }
    for label, (columns, caption) in wanted.items():
        series = {}
        for name, column in columns.items():
            if column in by_epoch and by_epoch[column].notna().any():
                values = by_epoch[column].dropna()
                series[name] = ((values.index + 1).tolist(), values.tolist())
        if series:
            ends = ((name, f"{y[0]:.2f} to {y[-1]:.2f}") for name, (_, y) in series.items())
            curves.append(
                {
                    "src": _svg(line_figure(series, x_label="epoch", y_label=label, width=5.6, height=2.5)),
                    "alt": _alt(f"Curve of the {label} over {len(by_epoch)} epochs", ends),
                    "caption": caption,
                }
            )
    return curves


def _shot(shot: Shot, products: pd.DataFrame) -> dict[str, Any]:
    mine = products[products["image_id"] == shot.image_id]
    counts = mine["category"].value_counts()
    title = f"{_many(len(mine), 'product')} found." if len(mine) else "No product found."
    picture = shot.picture
    if max(picture.size) > _PHOTO_SIDE:
        picture = picture.copy()
        picture.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=86, optimize=True)
    return {
        "file_name": shot.file_name,
        "src": f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}",
        "alt": _alt(f"Photo {shot.file_name} with boxes around the products", counts.items()),
        "title": title,
        "rows": mine.head(_MAX_ROWS).to_dict("records"),
        "left_out": max(0, len(mine) - _MAX_ROWS),
    }


def _gallery_note(shown: int, photos: int) -> str:
    if shown == photos:
        return "All photos, in order. Size is relative to the usual size in the category."
    return f"{shown} of {photos:,} photos, evenly spaced and not chosen. The tables have all of them."


def _metric(metrics: Mapping[str, float], name: str) -> float | None:
    for stage in ("test/", "val/", ""):
        value = metrics.get(stage + name)
        if value is not None and math.isfinite(float(value)) and float(value) >= 0:
            return float(value)
    return None


def _score(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "no data"


def _first(values: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in list(values.items())[:_MAX_BARS]}


def _left_out(count: int) -> str:
    return f"; the first {_MAX_BARS} of {count}" if count > _MAX_BARS else ""


def _alt(what: str, pairs: Any) -> str:
    listed = [f"{name} {value}" for name, value in pairs]
    more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
    return f"{what}: {', '.join(listed[:12])}{more}." if listed else f"{what}: none."


def _svg(text: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def _many(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(v)}" for name, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return "not set" if value is None else str(value)
