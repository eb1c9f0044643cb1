"""`MediaPanelDataModule` on panels made by hand: splits, loaders, ranks, resume, and no look at the test period."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.unit.data.panels import make_panel

from wanamaker.data.media_panel import MediaBatch, MediaPanel, PanelSchema
from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.panel_splits import SPLITS
from wanamaker.errors import UserError

ROLES = {
    "date": "date",
    "kpi": "sales",
    "series": ["geo"],
    "media": {"channel0": {"spend": "s0", "shared": "equal"}, "channel1": {"spend": "s1"}},
    "price": ["own"],
    "promotion": ["deal"],
    "control": ["rain", "nps"],
}
CALENDAR = {"seasonality": {"monthly": 1}, "holidays": "US", "trend": {"knots": 2}}


class HandMade(MediaPanelDataModule):
    """Takes a panel instead of reading a file."""

    def __init__(self, panel: MediaPanel, **options: Any) -> None:
        super().__init__(path="by_hand.csv", roles=ROLES, **options)
        self.given = panel

    def _read(self) -> MediaPanel:
        return self.given


def ready(panel: MediaPanel | None = None, stage: str | None = None, **options: Any) -> HandMade:
    data = HandMade(make_panel() if panel is None else panel, **{"split": {"val": 6, "test": 6}, **options})
    data.setup(stage)
    return data


def with_rank(data: MediaPanelDataModule, rank: int, world_size: int) -> MediaPanelDataModule:
    """The module as rank `rank` of a fresh run sees it."""
    counter = SimpleNamespace(ready=0, processed=0, completed=0)
    batches = SimpleNamespace(current=counter, total=counter, is_last_batch=False)
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        overfit_batches=0,
        fit_loop=SimpleNamespace(
            epoch_progress=SimpleNamespace(current=counter), epoch_loop=SimpleNamespace(batch_progress=batches)
        ),
    )
    return data


def rows_of(loader) -> list[list[int]]:
    return [batch.row.tolist() for batch in loader]


# -- attributes --------------------------------------------------------------------------------------------------------


def test_attributes_after_setup() -> None:
    data = ready(**CALENDAR, max_lag=5)
    assert data.taps == 6
    assert data.schema.season == ("monthly_sin_1", "monthly_cos_1", "holiday")
    assert data.schema.trend == ("trend", "trend_knot_1", "trend_knot_2")
    assert (data.season.shape, data.trend.shape) == ((40, 3), (40, 3))
    assert data.season.dtype == data.trend.dtype == np.float32
    assert data.split_of.shape == (3, 40)
    assert data.split_of.dtype == np.int64
    assert [int((data.split_of == code).sum()) for code in range(4)] == [84, 18, 18, 0]
    assert data.num_train_rows == data.train_mask.sum() == 84
    assert (data.fold, len(data.folds)) == (0, 1)
    assert PanelSchema.from_dict(data.schema.to_dict()) == data.schema


def test_no_date_is_on_two_sides() -> None:
    data = ready(split={"scheme": "expanding", "val": 4, "test": 4, "window": 12, "gap": 1, "fold": 1})
    for code in range(3):
        times = {int(t) for t in np.flatnonzero((data.split_of == code).any(axis=0))}
        others = {int(t) for t in np.flatnonzero(((data.split_of != code) & (data.split_of != 3)).any(axis=0))}
        assert times
        assert not times & others
    # 40 periods: folds of 4 from the end, this is the second; two gaps and the later folds are on no side.
    assert len(data.folds) == 5
    assert data.folds[1].train == (0, 18)
    assert (data.split_of[:, 28:] == SPLITS.index("none")).all()


def test_a_kpi_that_was_not_observed_is_on_no_side() -> None:
    panel = make_panel()
    panel.kpi[1, [3, 30, 38]] = np.nan
    data = ready(panel)
    assert (data.split_of[1, [3, 30, 38]] == SPLITS.index("none")).all()
    assert data.num_train_rows == 83


def test_masked_periods_are_history_only() -> None:
    data = ready(mask=["2020-01-19", ["2020-02-09", "2020-02-20"]])
    assert set(np.flatnonzero(np.isnan(data.panel.kpi[0]))) == {2, 5, 6}
    assert data.num_train_rows == 84 - 9
    batch = data.dataset(data.rows("train"))[2]
    assert batch.time.tolist() == [3]
    assert batch.media[0, 1].tolist() == data.panel.media[0, 2].tolist(), "the media of the masked week still act"
    assert not np.isnan(data.given.kpi).any(), "the panel that was given is left alone"


def test_pre_period_is_history_only() -> None:
    panel = make_panel(lead_in=1)
    data = ready(panel, pre_period=4, max_lag=13)
    assert data.panel.num_periods == 36
    assert str(data.panel.dates[0]) == "2020-02-02"
    assert data.split_of.shape == (3, 36)
    batch = data.dataset(data.rows("train"))[0]
    np.testing.assert_array_equal(batch.media[0, :5].numpy(), panel.media[0, 4::-1])
    assert batch.media[0, 5].tolist() == panel.lead_in[0, 0].tolist()
    assert not batch.media[0, 6:].any(), "zeros before the first known period"


def test_series_are_left_out_and_grouped() -> None:
    data = ready(
        make_panel(G=4), exclude_series=["geo1"], levels={"zone": {"north": ["geo0", "geo3"], "south": ["geo2"]}}
    )
    assert data.schema.series == ("geo0", "geo2", "geo3")
    assert list(data.schema.levels) == ["zone", "region"], "coarser levels come first"
    assert data.schema.levels["zone"].of_series == (0, 1, 0)
    assert data.schema.levels["region"].of_series == (0, 0, 1)
    np.testing.assert_array_equal(data.panel.media[1], data.given.media[2])
    kept, given = data.panel.spend, data.given.spend
    np.testing.assert_allclose(kept[..., 0].sum(axis=0), given[..., 0].sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(kept[1, :, 0] / kept[0, :, 0], given[2, :, 0] / given[0, :, 0], rtol=1e-5)
    np.testing.assert_array_equal(kept[..., 1], given[[0, 2, 3]][..., 1], "the geo that is left out took its money")
    assert len(data.schema.own_price) == 3


def test_national_spend_is_divided_by_the_kpi_and_conserved() -> None:
    national = make_panel(frequency=True)
    national.media[:] = national.media[:1]
    spend = national.media / np.float32(3)
    panel = replace(national, spend=spend)
    data = ready(panel, share_by_kpi=True)
    shares = np.where(data.train_mask, panel.kpi, 0).sum(axis=1, dtype=float)
    shares /= shares.sum()
    assert list(data.national) == [True, False]
    np.testing.assert_allclose(data.panel.spend.sum(axis=0), spend.sum(axis=0), rtol=1e-6)
    whole = spend.sum(axis=0)[:, 0]
    np.testing.assert_allclose(data.panel.spend[..., 0], shares[:, None] * whole, rtol=1e-5)
    np.testing.assert_array_equal(data.panel.spend[..., 1], spend[..., 1], "a local channel keeps its own money")
    assert data.panel.media is panel.media, "everybody saw all of it"


# -- the test period decides nothing -----------------------------------------------------------------------------------


def test_values_after_training_change_nothing() -> None:
    """Trend, knots, calendar, shares, naive scale, training rows and batches are those of the training window."""
    options = {**CALENDAR, "share_by_kpi": True, "split": {"val": 6, "test": 6, "gap": 1}}
    panel = make_panel(T=50, lead_in=3)
    changed = make_panel(T=50, lead_in=3)
    rng = np.random.default_rng(1)
    start = 50 - 6 - 1 - 6 - 1  # the first gap
    for name in ("kpi", "media", "price", "promotion", "control"):
        array = getattr(changed, name)
        array[:, start:] = rng.uniform(1e3, 1e6, array[:, start:].shape)
    changed.kpi[1, start + 2] = np.nan
    changed = replace(changed, spend=changed.media)
    one, two = ready(panel, **options), ready(changed, **options)
    assert one.schema == two.schema
    np.testing.assert_array_equal(one.season, two.season)
    np.testing.assert_array_equal(one.trend, two.trend)
    np.testing.assert_array_equal(one.rows("train"), two.rows("train"))
    np.testing.assert_array_equal(one.panel.spend[:, :start], two.panel.spend[:, :start])
    for a, b in zip(one.train_dataloader(), two.train_dataloader(), strict=True):
        for name in MediaBatch._fields:
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)


def test_a_longer_file_changes_nothing_before_the_dates_of_the_split() -> None:
    split = {"val": "2020-07-05", "test": "2020-08-30"}
    one = ready(make_panel(T=40), split=split, **CALENDAR)
    two = ready(make_panel(T=60), split=split, **CALENDAR)
    assert one.schema == two.schema
    np.testing.assert_array_equal(one.trend, two.trend[:40])
    np.testing.assert_array_equal(one.season, two.season[:40])


# -- loaders -----------------------------------------------------------------------------------------------------------


def test_whole_panel_batch_is_completed_to_sixteen() -> None:
    data = ready(passes_per_epoch=3)
    batches = rows_of(data.train_dataloader())
    assert [len(rows) for rows in batches] == [96, 96, 96], "84 rows"
    assert all(set(rows) == set(data.rows("train")) for rows in batches)
    assert len({tuple(rows) for rows in batches}) == 3


@pytest.mark.parametrize("batch_size", [None, 8])
def test_two_ranks_take_the_batches_of_one(batch_size: int | None) -> None:
    options = {"batch_size": batch_size, "passes_per_epoch": 2}
    whole = rows_of(with_rank(ready(**options), 0, 1).train_dataloader())
    ranks = [rows_of(with_rank(ready(**options), r, 2).train_dataloader()) for r in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("eval_batch_size", [None, 6])
def test_evaluation_visits_every_row_once(world_size: int, eval_batch_size: int | None) -> None:
    panel = make_panel()
    panel.kpi[0, -1] = np.nan
    seen: dict[str, list[int]] = {"val": [], "test": [], "predict": []}
    for rank in range(world_size):
        data = with_rank(ready(panel, eval_batch_size=eval_batch_size), rank, world_size)
        for name, rows in seen.items():
            rows += [row for batch in getattr(data, f"{name}_dataloader")() for row in batch.row.tolist()]
    assert sorted(seen["val"]) == data.rows("val").tolist()
    assert sorted(seen["test"]) == data.rows("test").tolist()
    assert len(seen["test"]) == 17
    assert sorted(seen["predict"]) == list(range(120)), "also what was not observed"
    if world_size == 1:
        assert seen["predict"] == list(range(120)), "in row order"


def test_without_validation_there_is_no_loader() -> None:
    assert ready(split={"test": 6}, stage="fit").val_dataloader() == []


def test_loaders_with_workers_give_the_same() -> None:
    alone, helped = ready(batch_size=16), ready(batch_size=16, num_workers=2)
    for a, b in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert torch.equal(a.row, b.row)
        assert torch.equal(a.media, b.media)


class Recorder(L.LightningModule):
    """Notes the rows of every step, and takes one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.seen: list[tuple[int, list[int]]] = []
        self.predicted: list[int] = []

    def training_step(self, batch: MediaBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch.row.tolist()))
        return self.layer(batch.media[:, 0] / 3000).pow(2).mean()

    def validation_step(self, batch: MediaBatch, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch.media[:, 0]).mean(), batch_size=len(batch.row))

    def predict_step(self, batch: MediaBatch, batch_idx: int) -> None:
        assert isinstance(batch, MediaBatch)
        self.predicted += batch.row.tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(callbacks: list | None = None, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=bool(callbacks),
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 3, **options},
    )


LOADING = {"batch_size": 32, "passes_per_epoch": 2, "split": {"val": 6, "test": 6}}


@pytest.mark.parametrize("step", [2, 3, 6, 10])
def test_resume_in_the_middle_of_an_epoch_is_bit_equal(tmp_path: Path, step: int) -> None:
    torch.manual_seed(0)
    unbroken = Recorder()
    trainer().fit(unbroken, datamodule=HandMade(make_panel(), **LOADING))
    assert len(unbroken.seen) == 18, "3 epochs x 2 passes x 3 batches"
    torch.manual_seed(0)
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    trainer([keep], max_steps=step + 1).fit(Recorder(), datamodule=HandMade(make_panel(), **LOADING))
    resumed = Recorder()
    trainer().fit(resumed, datamodule=HandMade(make_panel(), **LOADING), ckpt_path=tmp_path / f"step={step}.ckpt")
    assert resumed.seen == unbroken.seen[step:]
    assert torch.equal(resumed.layer.weight, unbroken.layer.weight)


def test_other_passes_are_refused_inside_an_epoch(tmp_path: Path) -> None:
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    trainer([keep], max_steps=5).fit(Recorder(), datamodule=HandMade(make_panel(), **LOADING))
    other = HandMade(make_panel(), **{**LOADING, "passes_per_epoch": 3})
    with pytest.raises(UserError, match="passes 2 -> 3"):
        trainer().fit(Recorder(), datamodule=other, ckpt_path=tmp_path / "step=4.ckpt")


def test_prediction_in_lightning_visits_every_row() -> None:
    module = Recorder()
    trainer().predict(module, datamodule=HandMade(make_panel(), eval_batch_size=32))
    assert module.predicted == list(range(120))


# -- a trained model's calendar ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_another_file_takes_the_calendar_of_the_model(when: str) -> None:
    trained = ready(make_panel(T=40), **CALENDAR)
    schema = PanelSchema.from_dict(trained.schema.to_dict())
    later = HandMade(make_panel(T=30, first="2020-06-07"), trend="linear")
    if when == "before":
        later.adopt(schema)
    later.setup("predict")
    later.adopt(schema)
    assert later.schema.season == trained.schema.season
    assert later.schema.calendar == trained.schema.calendar
    shared = np.flatnonzero(np.isin(trained.panel.dates, later.panel.dates))
    np.testing.assert_array_equal(later.trend[: len(shared)], trained.trend[shared])
    np.testing.assert_array_equal(later.season[: len(shared)], trained.season[shared])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"series": ("geo0", "geo1", "geo9")}, r"among the series the file lacks geo9 .* has geo2, which the model"),
        ({"media": ("channel0", "Channel1")}, r"lacks Channel1 \(is 'channel1' meant to be 'Channel1'\?\)"),
        ({"media": ("channel1", "channel0")}, r"media channels stand in another order .*channel1, channel0"),
        ({"price": ()}, r"among the prices the file has own, which the model does not know"),
        ({"kpi": "units"}, r"kpi is sales, but the model was trained with units"),
        ({"period": "D"}, r"period is W-SUN, but the model was trained with D"),
        ({"levels": {}}, r"hierarchy groups the series otherwise"),
    ],
)
def test_a_panel_the_model_cannot_read(change: dict, message: str) -> None:
    data = ready()
    with pytest.raises(UserError, match=message):
        data.adopt(replace(data.schema, **change))


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size=0"),
        ({"max_lag": -1}, r"data\.max_lag=-1"),
        ({"passes_per_epoch": 0}, r"data\.passes_per_epoch=0"),
        ({"pre_period": 2.5}, r"data\.pre_period=2\.5"),
        ({"pre_period": 40}, r"data\.pre_period=40 takes all 40 periods"),
        ({"mask": ["soon"]}, r"data\.mask: 'soon' is neither a date"),
        ({"mask": [["2020-03-01", "2020-02-01"]]}, r"ends before it begins"),
        ({"mask": ["2020-01-06"]}, r"data\.mask: no period of the panel \(2020-01-05 to 2020-10-04\) begins"),
        ({"exclude_series": ["geo11"]}, r"exclude_series: 'geo11' is no series of the panel. Did you mean 'geo1'"),
        ({"exclude_series": ["geo0", "geo1", "geo2"]}, r"names every series"),
        ({"levels": {"region": {}}}, r"data\.levels\.region: roles\.hierarchy names this level too"),
        ({"levels": {"zone": {"n": ["geo0"]}}}, r"2 series are in no group: geo1, geo2"),
        ({"levels": {"zone": {"n": ["geo0", "geo"]}}}, r"data\.levels\.zone\.n: 'geo' is no series"),
        ({"levels": {"zone": {"n": ["geo0"], "s": ["geo0"]}}}, r"'geo0' is in 'n' and in 's'"),
        ({"split": {"val": 30, "test": 30}}, r"leaves too few periods to train on"),
        ({"split": {"test": 6, "val": "2031-01-05"}}, r"data\.split\.val=2031-01-05 is outside the panel"),
    ],
)
def test_user_errors(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(**options)


def test_a_stage_without_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.split\.val is empty, but stage validate needs it"):
        ready(split={"test": 6}, stage="validate")
    with pytest.raises(UserError, match=r"data\.split\.test is empty, but stage test needs it"):
        ready(split=None, stage="test")
    assert ready(split=None, stage="predict").num_train_rows == 120


@pytest.mark.parametrize(("split", "stage", "first"), [("val", "fit", 28), ("test", "test", 34), ("train", "fit", 0)])
def test_a_split_without_an_observed_kpi_is_refused(split: str, stage: str, first: int) -> None:
    panel = make_panel()
    panel.kpi[:, first : first + 6 if first else 28] = np.nan
    with pytest.raises(UserError, match=f"The {split} split, {panel.dates[first]} to .* no row with an observed sales"):
        ready(panel, stage=stage)


def test_a_series_that_begins_after_training_is_named() -> None:
    panel = make_panel()
    panel.kpi[1, :28] = np.nan
    with pytest.raises(UserError, match=r"1 of 3 series have no observed sales .*: geo1\..*exclude_series=\['geo1'"):
        ready(panel, stage="fit")
    assert ready(panel, stage="predict").split_of[1, 30] == SPLITS.index("val")


def test_ranks_that_do_not_divide_the_batch() -> None:
    with pytest.raises(UserError, match=r"global batch of 96 rows \(84 training rows.*5 ranks.*multiple of 5"):
        with_rank(ready(), 0, 5).train_dataloader()
    with pytest.raises(UserError, match=r"data\.batch_size=9 .*2 ranks"):
        with_rank(ready(batch_size=9), 0, 2).train_dataloader()
    with pytest.raises(UserError, match=r"The val split has 3 rows for 4 ranks"):
        with_rank(ready(split={"val": 1}), 0, 4).val_dataloader()


def test_share_by_kpi_needs_a_national_channel_and_a_positive_kpi() -> None:
    panel = make_panel()
    panel.kpi[:] = -1
    with pytest.raises(UserError, match=r"share_by_kpi=true, but the KPI of the training window has no positive total"):
        ready(panel, share_by_kpi=True)
    local = HandMade(make_panel(), share_by_kpi=True)
    local.roles = replace(local.roles, channels=tuple(replace(c, shared=None) for c in local.roles.channels))
    with pytest.raises(UserError, match=r"share_by_kpi=true, but no channel is national"):
        local.setup()


def test_setup_says_what_is_on_which_side(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        data = ready(split={"scheme": "expanding", "test": 6, "window": 20})
        data.setup("fit")
    said = [record.message for record in caplog.records if "series x" in record.message]
    assert said == [
        "by_hand.csv: 3 series x 40 periods (W-SUN); train 2020-01-05 to 2020-08-23 (102 rows), no val,"
        " test 2020-08-30 to 2020-10-04 (18 rows), fold 2 of 3",
    ]
