"""The final metrics as a table in the terminal."""

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

STAGES = ("train", "val", "test")


class MetricTable(Callback):
    """Prints what was logged last, a row per metric and a column per stage, after training, validation and test.

    `val/ap` stands in row `ap`, column `val`; metrics with a third part, such as `val/ap_class/cup`, make a table
    of their own, named by the second. Only rank zero prints.

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
            The overview, then one table per group of three-part names.
        """
        groups: dict[str, dict[str, dict[str, float]]] = {}
        for name, value in metrics.items():
            parts = name.split("/", 2)
            stage = parts[0] if len(parts) > 1 else ""
            group = parts[1] if len(parts) > 2 else ""
            groups.setdefault(group, {}).setdefault(parts[-1], {})[stage] = value
        return [self._table(f"{title}: {group}" if group else title, groups[group]) for group in sorted(groups)]

    def _table(self, title: str, rows: dict[str, dict[str, float]]) -> Table:
        found = {stage for row in rows.values() for stage in row}
        stages = [s for s in STAGES if s in found] + sorted(found - set(STAGES))
        table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", border_style="dim")
        table.add_column("metric", overflow="fold")
        for stage in stages:
            table.add_column(stage, justify="right", overflow="fold")
        for name, row in rows.items():
            values = (f"{row[stage]:.{self.digits}g}" if stage in row else "" for stage in stages)
            table.add_row(name, *values)
        return table
