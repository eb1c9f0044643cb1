"""`TransactionExperimentDataModule`: a loyalty programme's transactions, read as an experiment that nobody ran.

Nothing was randomised here: who was treated chose it, or brought it about by buying. Probabilities are estimated, and
the gates of `ExperimentDataModule` look for customers who could not have been treated, or not have been. Effects that
come out are as good as the features explain who was treated, and no better.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wanamaker.data.experiment import ExperimentDataModule
from wanamaker.data.panel_source import PanelSource
from wanamaker.data.passed_on import passed_on
from wanamaker.data.simulate.cache_lock import made_once
from wanamaker.data.transactions_experiment import ID, TREATMENT, build_experiment, outcome_roles
from wanamaker.data.transactions_roles import TransactionRoles
from wanamaker.data.transactions_source import read_transactions
from wanamaker.data.transactions_treatment import Treatment
from wanamaker.data.transactions_windows import parse_windows
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

VERSION = 1
"""Raise this when the same transactions make another table: it is part of the folder's name."""

TABLE, REPORT = "experiment.parquet", "report.json"


class TransactionExperimentDataModule(ExperimentDataModule):
    """Transactions cut by dates: features from the first window, arms from the second, outcomes from the third.

    The table that comes out is kept in the cache, with a report of who was left out and why, and is made anew when a
    file or an option changes.

    Args:
        path: A CSV or Parquet file of transactions, or a list of them, such as monthly exports.
        roles: Which column is what; see `TransactionRoles`.
        treatment: Who was treated; see `Treatment`.
        windows: `{feature: [first day, last day], treatment: [...], outcome: [...]}`; null: equal thirds of the span.
            `feature` alone: customers to be scored by a trained model.
        outcomes: Those of monetary, conversion and frequency that are to be learnt, the one to watch first.
        cache_dir: Where tables are kept, in `transactions/`.
        encoding: Of CSV files.
        delimiter: Between the cells of CSV files; null is a comma (a tab in a .tsv file).
        decimal: Decimal sign of CSV files.

    The other arguments say how the table is split and read: see `ExperimentDataModule`.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[str],
        roles: Mapping[str, Any],
        treatment: str | Mapping[str, Any],
        cache_dir: str,
        windows: Mapping[str, Any] | None = None,
        outcomes: Sequence[str] = ("monetary", "conversion", "frequency"),
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
        split: Mapping[str, Any] | None = None,
        checks: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        max_categories: int = 1000,
        batch_size: int = 1024,
        eval_batch_size: int = 8192,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        given = locals()
        self.transaction_paths = [Path(one) for one in ([path] if isinstance(path, str) else path)]
        if not self.transaction_paths:
            raise UserError("data.path=[]; give a file of transactions, or a list of files.")
        self.transaction_roles = TransactionRoles.from_config(roles)
        self.treatment = Treatment.from_config(treatment, self.transaction_roles)
        self.windows = parse_windows(windows)
        self.reading = {"encoding": encoding, "delimiter": delimiter, "decimal": decimal}
        self.outcomes = outcome_roles(outcomes, self.transaction_roles.money_unit)
        self._tables = Path(cache_dir) / "transactions"
        roles = {
            "id": ID,
            "treatment": TREATMENT,
            "control": self.treatment.control or self.treatment.arms[0],
            "outcomes": self.outcomes,
        }
        # The options of CSV files are for the transactions, not for the table that comes out.
        plain = {"encoding": "utf-8", "delimiter": None, "decimal": "."}
        path = str(self.table_dir / TABLE)
        super().__init__(**passed_on(ExperimentDataModule, given, path=path, roles=roles, **plain))

    @property
    def table_dir(self) -> Path:
        """Where the table lies, or will; its name carries every option and the state of every file.

        Raises:
            UserError: a file that is not there.
        """
        files = []
        for path in self.transaction_paths:
            PanelSource(path, **self.reading)  # says what to do about a file that is missing
            found = path.stat()
            files.append([str(path.resolve()), found.st_size, found.st_mtime_ns])
        content = {
            "version": VERSION,
            "files": files,
            "roles": asdict(self.transaction_roles),
            "treatment": asdict(self.treatment),
            "windows": None if self.windows is None else asdict(self.windows),
            "reading": self.reading,
            "outcomes": self.outcomes,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self._tables / f"{self.transaction_paths[0].stem}-{digest[:16]}"

    @property
    def report(self) -> dict[str, Any]:
        """Windows, sizes of the arms, features, and who was left out, by reason."""
        return json.loads((self.path.parent / REPORT).read_text(encoding="utf-8"))

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Read the transactions, make the table and check it as any other.

        Raises:
            UserError: what cannot be read, a definition that the data do not fit, what the gates find.
        """
        if self.windows is not None and self.windows.treatment is None and "fit" in (stages or ("fit",)):
            raise UserError(
                "data.windows has the feature window alone, which is enough to score customers and not to learn: give "
                "treatment and outcome, too, or null for equal thirds."
            )
        self.prepare_data()
        super().preflight(stages)

    def prepare_data(self) -> None:
        made_once(self.path.parent, _is_complete, self._write, "table", "makes the table")

    def setup(self, stage: str | None = None) -> None:
        if not _is_complete(self.path.parent):
            raise UserError(f"{self.path.parent} holds no table yet: prepare_data() makes it; call it first.")
        super().setup(stage)

    def _write(self, folder: Path) -> None:
        """Write table and report into a folder that is there."""
        roles = self.treatment.reading(self.transaction_roles)
        rows, left_out = read_transactions(self.transaction_paths, roles, **self.reading)
        found = build_experiment(rows, self.windows, self.treatment, self.transaction_roles)
        report = found.to_dict()
        report["left_out"] = left_out | report["left_out"]
        labels = [TREATMENT, *(outcome["name"] for outcome in self.outcomes)] if found.arms else []
        found.frame[[ID, *found.features, *labels]].to_parquet(folder / TABLE, index=False)
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        self._tell(report)

    @rank_zero_only
    def _tell(self, report: Mapping[str, Any]) -> None:
        windows = ", ".join(f"{name} {first} to {last}" for name, (first, last) in report["windows"].items())
        arms = ", ".join(f"{arm} {size:,}" for arm, size in report["arms"].items()) or "to be scored"
        log.info("%d customers (%s) from %s", report["customers"], arms, windows)
        for why, count in report["left_out"].items():
            log.info("left out: %s: %d", why, count)
        if self.treatment.kind != "column" and report["arms"]:
            log.warning(
                "A status moves because of what a customer buys, and so does the outcome: what the features do not "
                "tell of this is taken for an effect. Look at the gates, and trust a randomised experiment more."
            )


def _is_complete(folder: Path) -> bool:
    return (folder / TABLE).is_file() and (folder / REPORT).is_file()
