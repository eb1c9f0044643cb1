"""What a person reads: the progress bar, the lines of a log file, the table of metrics."""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rich
from lightning.pytorch import Trainer
from rich.console import Console

from wanamaker.callbacks.metric_table import MetricTable
from wanamaker.callbacks.progress import TerminalProgressBar

Make = Callable[..., Trainer]


@pytest.fixture
def terminal() -> Iterator[io.StringIO]:
    """A terminal of 100 columns; Lightning's bar reconfigures rich's global console, which is put back."""
    yield io.StringIO()
    rich.reconfigure()


def test_a_file_gets_one_line_per_epoch(make_trainer: Make, toy: type, capsys: pytest.CaptureFixture[str]) -> None:
    make_trainer(callbacks=[TerminalProgressBar()], enable_progress_bar=True).fit(toy())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        assert re.fullmatch(rf"epoch {number}/3  4 steps  \d+ s  val/loss [\d.]+  train/loss [\d.]+", line), line
    assert len({line.split("train/loss")[1] for line in lines}) == 3  # each epoch's own mean, not the one before


def test_loss_and_monitor_are_shown_even_if_not_logged_for_the_bar(
    make_trainer: Make, toy: type, capsys: pytest.CaptureFixture[str]
) -> None:
    class Plain(toy):  # type: ignore[misc]
        def log(self, name: str, *args: Any, **kwargs: Any) -> None:
            super().log(name, *args, **{**kwargs, "prog_bar": False})

    make_trainer(callbacks=[TerminalProgressBar(monitor="val/loss")], enable_progress_bar=True, max_epochs=1).fit(
        Plain()
    )
    assert re.search(r"train/loss [\d.]+  val/loss [\d.]+$", capsys.readouterr().out)


def test_a_long_epoch_reports_in_between(make_trainer: Make, toy: type, capsys: pytest.CaptureFixture[str]) -> None:
    bar = TerminalProgressBar(line_every_s=20)
    bar._clock = iter(range(0, 1000, 10)).__next__
    make_trainer(callbacks=[bar], enable_progress_bar=True, max_epochs=1).fit(toy())
    assert [line.split("  ")[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["epoch 1/1", "step 2/4"],
        ["epoch 1/1", "4 steps"],
    ]


def test_a_terminal_gets_a_bar(make_trainer: Make, toy: type, terminal: io.StringIO) -> None:
    bar = TerminalProgressBar(
        console_kwargs={"file": terminal, "force_terminal": True, "width": 100, "_environ": {"TERM": "xterm"}}
    )
    trainer = make_trainer(callbacks=[bar], enable_progress_bar=True)
    model = toy()
    trainer.fit(model)
    trainer.test(model, verbose=False)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "Epoch 2/2" in text
    assert "4/4" in text
    assert "train/loss: " in text
    assert "Testing" in text
    assert "━" in text


def test_refresh_rate_zero_is_silent(make_trainer: Make, toy: type, capsys: pytest.CaptureFixture[str]) -> None:
    make_trainer(callbacks=[TerminalProgressBar(refresh_rate=0)], enable_progress_bar=True).fit(toy())
    assert capsys.readouterr().out == ""


def test_the_bar_reads_metrics_only_when_it_redraws(make_trainer: Make, toy: type, terminal: io.StringIO) -> None:
    bar = TerminalProgressBar(
        refresh_rate=1, console_kwargs={"file": terminal, "force_terminal": True, "_environ": {"TERM": "xterm"}}
    )
    bar._clock = lambda: 50.0  # one instant: the first step redraws, later ones do not, the last one does
    reads = 0
    original = bar.get_metrics

    def counted(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        return original(*args)

    bar.get_metrics = counted  # type: ignore[method-assign]
    make_trainer(callbacks=[bar], enable_progress_bar=True, max_epochs=1, limit_val_batches=0).fit(toy())
    assert reads == 3  # first step, last step, end of the epoch


def test_the_table_after_training_validation_and_test(
    make_trainer: Make, toy: type, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, model = make_trainer(callbacks=[MetricTable()]), toy()
    trainer.fit(model)
    text = capsys.readouterr().out
    assert text.count("After epoch 3") == 1
    assert re.search(r"metric\W+train\W+val", text)
    assert re.search(r"loss\W+[\d.]+\W+[\d.]+", text)
    trainer.validate(model, verbose=False)
    assert "Validation" in capsys.readouterr().out
    trainer.test(model, verbose=False)
    text = capsys.readouterr().out
    assert "Test" in text
    assert "val" not in text


@pytest.mark.parametrize("width", [12, 24, 200])
def test_tables_fit_any_terminal(width: int) -> None:
    metrics = {"val/ap": 0.123456, "train/loss": 12345.678, "val/loss": float("nan"), "epoch": 3.0}
    metrics |= {f"val/ap_class/{name}": 0.5 for name in ("cup", "a very long category name")}
    console = Console(file=io.StringIO(), width=width)
    tables = MetricTable().tables(metrics, "Title")
    for table in tables:
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    assert [table.row_count for table in tables] == [3, 2]
    if width == 200:
        assert "0.1235" in text
        assert "1.235e+04" in text
        assert "Title: ap_class" in text
        assert "a very long category name" in text


def test_only_rank_zero_prints(make_trainer: Make, toy: type, capfd: pytest.CaptureFixture[str]) -> None:
    callbacks = [MetricTable(), TerminalProgressBar()]
    make_trainer(callbacks=callbacks, enable_progress_bar=True, devices=2, strategy="ddp_fork", max_epochs=1).fit(toy())
    text = capfd.readouterr().out
    assert text.count("After epoch 1") == 1
    assert text.count("epoch 1/1") == 1


def test_groups_with_the_same_parts_are_one_table() -> None:
    names = ("test/qini/coupon", "test/qini/notice", "test/autoc/coupon", "test/autoc/notice", "test/loss/visit/coupon")
    tables = MetricTable().tables({name: float(place) for place, name in enumerate(names)} | {"test/all": 9.0}, "Test")
    assert [table.title for table in tables] == ["Test", "Test", "Test: loss"]
    joined = tables[1]
    assert [str(column.header) for column in joined.columns] == ["metric", "coupon", "notice"]
    assert [list(column.cells) for column in joined.columns] == [["autoc", "qini"], ["2", "0"], ["3", "1"]]
