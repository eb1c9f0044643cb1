"""The final metrics as a table in the terminal."""

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

STAGES = ("train", "val", "test")


class MetricTable(Callback):
    """Prints what was logged last, a row per metric and a column per stage, after training, validation and test.

    `val/ap` stands in row `ap`, column `val`; metrics with a third part, such as `val/ap_class/cup`, make a table
    of their own, named by the second. Where several of these have the same third parts, such as `test/qini/coupon` and
    `test/autoc/coupon`, they are the rows of one table with a column for each. Only rank zero prints.

    Args:
        digits: Significant digits.
    """

    def __init__(self, digits: int = 4) -> None:
        self.digits = digits

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer, f"After epoch {trainer.current_epoch}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._print(trainer, "Validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer, "Test")

    def _print(self, trainer: Trainer, title: str) -> None:
        if not trainer.is_global_zero or not trainer.callback_metrics:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        # A fresh console: the size of the terminal and stdout itself may have changed since the last one.
        console = Console()
        for table in self.tables(metrics, title):
            console.print(table)

    def tables(self, metrics: dict[str, float], title: str) -> list[Table]:
        """Lay out metrics.

        Args:
            metrics: By full name, such as `val/ap`.
            title: Of the first table.

        Returns:
            The overview, then tables of three-part names.
        """
        groups: dict[str, dict[str, dict[str, float]]] = {}
        for name, value in metrics.items():
            parts = name.split("/", 2)
            stage = parts[0] if len(parts) > 1 else ""
            group = parts[1] if len(parts) > 2 else ""
            groups.setdefault(group, {}).setdefault(parts[-1], {})[stage] = value
        alike: dict[tuple[str, ...], list[str]] = {}
        for group in sorted(groups):
            stages = {stage for row in groups[group].values() for stage in row}
            alike.setdefault((*sorted(stages), *groups[group]) if group else (), []).append(group)
        made = []
        for members in alike.values():
            if len(members) == 1:
                made.append(self._table(f"{title}: {members[0]}" if members[0] else title, groups[members[0]]))
                continue
            for stage in sorted({stage for row in groups[members[0]].values() for stage in row}):
                rows = {group: {name: row[stage] for name, row in groups[group].items()} for group in members}
                made.append(self._table(f"{title}, {stage}" if title.lower() != stage else title, rows))
        return made

    def _table(self, title: str, rows: dict[str, dict[str, float]]) -> Table:
        found = list(dict.fromkeys(stage for row in rows.values() for stage in row))
        stages = [s for s in STAGES if s in found] + [s for s in found if s not in STAGES]
        table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", border_style="dim")
        table.add_column("metric", overflow="fold")
        for stage in stages:
            table.add_column(stage, justify="right", overflow="fold")
        for name, row in rows.items():
            values = (f"{row[stage]:.{self.digits}g}" if stage in row else "" for stage in stages)
            table.add_row(name, *values)
        return table
