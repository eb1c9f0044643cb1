"""Where the list of customers goes that a decision ends in: files in the run's folder, and a table of a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanamaker.errors import UserError
from wanamaker.predictions.row_predictions import RowPredictions
from wanamaker.reporting.export import check_database_url, check_destination, check_formats, write_database
from wanamaker.reporting.outputs import write_outputs
from wanamaker.reporting.page import Figure

if TYPE_CHECKING:
    import pandas as pd


class CustomerList:
    """Where a list goes.

    Args:
        name: of the list, as its file is called, such as "audience".
        database: any SQLAlchemy URL; None writes to none.
        table: name of the table there.
        if_exists: what to do where that table is there already; see `export.write_database`.
        formats: of the table files.

    Raises:
        UserError: a database URL that is wrong or whose driver is not installed, no name of a table, an unknown format.
    """

    def __init__(self, name: str, database: str | None, table: str, if_exists: str, formats: Iterable[str]) -> None:
        check_destination(database, table, if_exists)
        self.name, self.database, self.table, self.if_exists = name, database, table, if_exists
        self.formats = check_formats(formats)

    def run_id(self, run: Mapping[str, Any]) -> str | None:
        """The run's id, if it has one.

        Raises:
            UserError: it has none, and the list is to go into a database.
        """
        found = str(run["run_id"]) if "run_id" in run else None
        if self.database is not None and found is None:
            raise UserError(f"Writing the {self.name} to a database needs a run_id: it tells the rows of runs apart.")
        return found

    def settings(self) -> dict[str, Any]:
        """What the report says of it; passwords are not shown."""
        database = self.database and check_database_url(self.database).render_as_string(hide_password=True)
        return {
            "database": database,
            "table": self.table if database else None,
            "if_exists": self.if_exists if database else None,
            "formats": list(self.formats),
        }

    def write(
        self,
        output_dir: Path,
        tables: Mapping[str, pd.DataFrame],
        figures: Sequence[Figure],
        page: str | None,
        run_id: str | None,
    ) -> list[Path]:
        """Write everything.

        Args:
            output_dir: folder of the run.
            tables: by file name; the list is one of them.
            figures: saved as PNG.
            page: the report; None leaves it out.
            run_id: as `run_id` gave it.

        Returns:
            The files written.

        Raises:
            UserError: a folder or database that cannot be written, or a table that is already there.
        """
        if self.database is not None:
            # First, because it may refuse: then nothing has been written anywhere.
            write_database({self.table: tables[self.name]}, self.database, str(run_id), self.if_exists)
        return write_outputs(output_dir, tables, figures, page, self.formats, run_id)


def check_predictions(predictions: Any, kind: type[RowPredictions], decision: str) -> None:
    """Make sure that predictions are of a kind.

    Raises:
        UserError: they are others.
    """
    if not isinstance(predictions, kind):
        raise UserError(
            f"decision={decision} reads the predictions of {kind.maker}, not {type(predictions).__name__}. "
            f"Choose a checkpoint of {kind.maker}, or another decision."
        )
