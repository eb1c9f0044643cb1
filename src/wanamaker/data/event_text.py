"""Tables whose columns are separated by any number of blanks, as old research data often is."""

from __future__ import annotations

from pathlib import Path

from wanamaker.data.panel_source import PanelSource
from wanamaker.errors import UserError

WHITESPACE = "whitespace"  # the delimiter of a recipe that means any number of blanks


class BlankSeparated(PanelSource):
    """A text file with a header, held in memory as text.

    Args:
        path: the file, of any ending.
        encoding: of the file.
        decimal: its decimal sign.

    Raises:
        UserError: it is missing, empty, or a row has more cells than the header.
    """

    def __init__(self, path: str | Path, encoding: str = "utf-8", decimal: str = ".") -> None:
        import pandas as pd

        if not Path(path).is_file():
            raise UserError(
                f"Data not on disk: {path}. Data lying elsewhere: set WANAMAKER_DATA_DIR or paths.data_dir=... ."
            )
        try:
            frame = pd.read_csv(path, sep=r"\s+", dtype=str, encoding=encoding, keep_default_na=False, index_col=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read as columns that blanks separate: {error}") from error
        super().__init__(frame.fillna(""), encoding, None, decimal)
        self.name, self.path = str(path), Path(path)

    def file_row(self, number: int) -> int:
        """The line of the file (header = 1), blank lines not counted."""
        return number + 2


def table_file(path: str | Path, encoding: str, delimiter: str | None, decimal: str) -> PanelSource:
    """One file of a log: CSV, Parquet, or columns that blanks separate (`delimiter: whitespace`)."""
    if delimiter == WHITESPACE:
        return BlankSeparated(path, encoding, decimal)
    return PanelSource(path, encoding, delimiter, decimal)
