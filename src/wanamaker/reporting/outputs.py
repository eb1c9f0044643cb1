"""What a decision about a mix leaves in the run's folder: tables, pictures and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wanamaker.predictions import atomic_path
from wanamaker.reporting.export import write_tables
from wanamaker.reporting.page import Figure, save_pictures

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.html"


def write_outputs(
    output_dir: Path | str,
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[Figure],
    page: str | None,
    formats: Sequence[str],
    run_id: str | None,
) -> list[Path]:
    """Write `tables/`, `figures/` and `report.html`; each file is replaced at once or not at all.

    Args:
        output_dir: folder of the run.
        tables: by file name.
        figures: saved as PNG.
        page: the report; None leaves it out.
        formats: of the tables.
        run_id: first column of the tables where given.

    Returns:
        The files written, the report last.

    Raises:
        UserError: folder not writable, or disk full.
    """
    output_dir = Path(output_dir)
    written = write_tables(tables, output_dir / "tables", formats, run_id)
    written += save_pictures(figures, output_dir / "figures")
    if page is not None:
        with atomic_path(output_dir / REPORT) as temporary:
            temporary.write_text(page, encoding="utf-8")
        written.append(output_dir / REPORT)
    return written
