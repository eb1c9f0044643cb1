"""Simulated panels as files and as options: deterministic, complete or absent, and wrong options are named."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.conftest import ROOT

from wanamaker.data.simulate import media_files
from wanamaker.data.simulate.media_files import PANELS
from wanamaker.data.simulate.media_frame import panel_roles
from wanamaker.data.simulate.media_options import RESERVED, PanelSimulation
from wanamaker.data.simulate.media_panel import simulate_media_panel
from wanamaker.data.simulate.media_presets import PRESETS, panel_simulation
from wanamaker.data.simulate.media_random import Stream
from wanamaker.data.simulate.media_truth import load_truth
from wanamaker.errors import UserError

TINY = PRESETS["tiny"]
GOLDEN_DRAWS = [0.5371255219357784, 0.9341968008578019, 0.026976051566939996]
GOLDEN_TINY = "26452d05cd5f"
"""Start of the SHA-256 of the table; a change of the simulator changes it, and `VERSION` with it."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def digest(frame: pd.DataFrame) -> str:
    return hashlib.sha256(frame.to_csv(index=False, float_format="%.6f", lineterminator="\n").encode()).hexdigest()


# -- determinism -------------------------------------------------------------------------------------------------------


def test_streams_are_those_of_every_platform() -> None:
    assert Stream(0, "demand").uniform(3).tolist() == GOLDEN_DRAWS
    np.testing.assert_array_equal(Stream(3, "a").uniform(2, 5).ravel(), Stream(3, "a").uniform(10))
    names = {Stream(seed, name).uniform(1)[0] for seed in (0, 1, 2**40) for name in ("a", "b", "a/b")}
    assert len(names) == 9
    wide = Stream(0, "range").uniform(200_000)
    assert 0 < wide.min() < 1e-4
    assert 1 - 1e-4 < wide.max() < 1
    path = Stream(0, "path").autoregression(0.7, 4, 20_000)
    assert path.std() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(path[0, 1:], path[0, :-1])[0, 1] == pytest.approx(0.7, abs=0.03)


def test_the_tiny_panel_is_that_of_every_platform() -> None:
    assert digest(simulate_media_panel(TINY).frame)[:12] == GOLDEN_TINY


@pytest.mark.parametrize("preset", ["tiny", "category"])
def test_the_same_options_give_the_same_bytes(preset: str, tmp_path: Path) -> None:
    chosen = panel_simulation(preset, {"endogeneity": {"budget_feedback": 1.0}, "periods": 60})
    first, second = PANELS.ensure(tmp_path / "a", chosen), PANELS.ensure(tmp_path / "b", chosen)
    assert contents(first) == contents(second)
    assert set(contents(first)) == {"panel.parquet", "truth.npz", "truth.json"}
    other = PANELS.ensure(tmp_path / "a", replace(chosen, seed=1))
    assert contents(other) != contents(first)


def test_threads_and_processes_change_nothing(tmp_path: Path) -> None:
    lines = (
        "import hashlib, sys",
        "from wanamaker.data.simulate.media_presets import panel_simulation",
        "from wanamaker.data.simulate.media_panel import simulate_media_panel",
        "panel = simulate_media_panel(panel_simulation('category', {'endogeneity': {'budget_feedback': 2.0}}))",
        "print(hashlib.sha256(panel.kpi.tobytes() + panel.truth.contribution.tobytes()).hexdigest())",
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    panel = simulate_media_panel(panel_simulation("category", {"endogeneity": {"budget_feedback": 2.0}}))
    here = hashlib.sha256(panel.kpi.tobytes() + panel.truth.contribution.tobytes()).hexdigest()
    assert done.stdout.strip() == here, done.stderr


def test_the_simulator_needs_no_torch() -> None:
    code = (
        "import sys; from wanamaker.data.simulate.media_panel import simulate_media_panel as s;"
        "from wanamaker.data.simulate.media_presets import PRESETS; s(PRESETS['tiny']);"
        "assert 'torch' not in sys.modules"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=120)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_is_the_panel() -> None:
    panel = simulate_media_panel(panel_simulation("category", {"geos": 2, "pre_period": 4, "periods": 40}))
    frame, truth = panel.frame, panel.truth
    assert len(frame) == 2 * 14 * 40
    assert list(frame.columns[:4]) == ["date", "geo", "subcategory", "category"]
    assert not frame.duplicated(["date", "geo", "subcategory"]).any()
    assert (frame.groupby("subcategory")["category"].nunique() == 1).all()
    assert sorted(frame["category"].unique()) == [f"category_{n}" for n in range(1, 6)]
    names = (frame["geo"] + " | " + frame["subcategory"]).to_numpy().reshape(28, 40)
    assert names[:, 0].tolist() == list(truth.series)
    dates = pd.to_datetime(frame["date"].to_numpy().reshape(28, 40)[0])
    assert (np.diff(dates.to_numpy()) == np.timedelta64(7, "D")).all()
    assert (dates.dayofweek == 0).all()
    units = frame["units"].to_numpy().reshape(28, 40)
    assert np.isnan(units[:, :4]).all()
    np.testing.assert_array_equal(units[:, 4:], panel.kpi[:, 4:])
    assert frame.drop(columns="units").notna().all(axis=None)
    assert (frame.filter(like="_spend") >= 0).all(axis=None)
    assert ((frame["discount"] >= 0) & (frame["discount"] < 1)).all()
    tv = frame["tv_spend"].to_numpy().reshape(28, 40)
    np.testing.assert_array_equal(tv, truth.spend[..., 0])


def test_reserved_names_are_those_of_the_columns() -> None:
    everything = {
        "geos": 2,
        "controls": 4,
        "demand": {"proxy": 0.5},
        "channels": ["tv"],
        "price": {"elasticity": -1.0, "cross": 0.1},
        "promotion": {"per_year": 3},
    }
    columns: set[str] = set()
    for preset in ("geo", "category"):
        frame = simulate_media_panel(panel_simulation(preset, everything)).frame
        columns |= set(frame.columns) - {"revenue", "units", "tv_spend", "tv_impressions"}
    assert columns == RESERVED


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_column_has_a_role_and_every_role_a_column(preset: str) -> None:
    chosen = panel_simulation(preset, {"demand": {"proxy": 0.5}})
    roles = panel_roles(chosen)
    text = json.dumps({name: value for name, value in roles.items() if name not in ("kpi_unit", "money_unit")})
    columns = set(simulate_media_panel(chosen).frame.columns)
    assert columns == columns & set(re.findall(r'"([^"]+)"', text))


@pytest.mark.parametrize(
    ("family", "snr"), [("gaussian", 5.0), ("student_t", 5.0), ("negative_binomial", 5.0), ("poisson", None)]
)
@pytest.mark.parametrize("link", ["identity", "log"])
def test_noise_has_mean_0_and_the_size_that_was_asked_for(family: str, snr: float | None, link: str) -> None:
    level = 2e5 if family != "poisson" else 2000.0
    overrides = {"periods": 1500, "link": link, "level": level, "season": {"growth": 0.0}}
    overrides |= {"noise": {"family": family, "snr": snr}}
    panel = simulate_media_panel(panel_simulation("national", overrides))
    truth, expected = panel.truth, panel.truth.expected
    left = panel.kpi - expected
    assert abs(left.mean()) < 4 * truth.noise_sd[0] / np.sqrt(left.size)
    assert left.std() == pytest.approx(truth.noise_sd[0], rel=0.12)
    if snr:
        assert expected.var() / left.var() == pytest.approx(snr, rel=0.25)
    else:
        assert truth.noise_sd[0] == pytest.approx(np.sqrt(expected.mean()), rel=1e-9)
    if family in ("poisson", "negative_binomial"):
        assert (panel.kpi == np.round(panel.kpi)).all()


# -- folders -----------------------------------------------------------------------------------------------------------


def test_truth_survives_the_folder(tmp_path: Path) -> None:
    chosen = panel_simulation("geo", {"periods": 60, "price": {"elasticity": -1.5}, "promotion": {"per_year": 5}})
    made = simulate_media_panel(chosen).truth
    found = load_truth(PANELS.ensure(tmp_path, chosen))
    assert found.options == chosen
    assert found.series == made.series
    for name in ("expected", "contribution", "contribution_all", "roi", "roi_series", "mroi", "price_elasticity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    plan = 0.7 * made.spend
    np.testing.assert_array_equal(found.expected_kpi(spend=plan, tail=True), made.expected_kpi(spend=plan, tail=True))
    summary = json.loads((PANELS.folder(tmp_path, chosen) / "truth.json").read_text())
    assert summary["channels"]["tv"]["roi"] == pytest.approx(1.5)
    assert summary["channels"]["email"]["roi"] is None
    assert summary["channels"]["tv"]["incremental"] == pytest.approx(made.incremental(channel="tv"))
    assert summary["options"] == json.loads(json.dumps(asdict(chosen)))
    with np.load(PANELS.folder(tmp_path, chosen) / "truth.npz") as arrays:
        np.testing.assert_array_equal(arrays["contribution"], made.contribution)


def test_a_folder_without_truth_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"truth\.json"):
        load_truth(tmp_path)


def test_a_cached_folder_is_used_again_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PANELS.ensure(tmp_path, TINY)
    assert folder == PANELS.folder(tmp_path, TINY)
    assert PANELS.is_complete(folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(media_files, "simulate_media_panel", lambda *_: pytest.fail("made twice"))
    assert PANELS.ensure(tmp_path, TINY) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_several_at_once_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, lock = [], threading.Lock()

    def counted(options: PanelSimulation) -> Any:
        with lock:
            made.append(1)
        return simulate_media_panel(options)

    monkeypatch.setattr(media_files, "simulate_media_panel", counted)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: PANELS.ensure(tmp_path, TINY), range(4)))
    assert len(set(folders)) == 1
    assert len(made) == 1
    assert [path.name for path in folders[0].parent.iterdir() if ".part-" in path.name] == []


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    target = PANELS.folder(tmp_path, TINY)
    leftover = target.parent / f".{target.name}.part-abc"
    leftover.mkdir(parents=True)
    (leftover / "panel.parquet").write_text("half")
    PANELS.ensure(tmp_path, TINY)
    assert not leftover.exists()
    assert PANELS.is_complete(target)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(UserError, match=r"No space left.*paths\.cache_dir"):
        PANELS.ensure(tmp_path, TINY)
    assert [path for path in (tmp_path / "media_panel").iterdir() if path.is_dir()] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths\.cache_dir"):
        PANELS.ensure(tmp_path / "file", TINY)


# -- options -----------------------------------------------------------------------------------------------------------


def test_every_option_is_in_the_name() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"level": 50_000.0},
        {"noise": {"snr": 3.0}},
        {"endogeneity": {"bidding": 0.5}},
        {"channels": {"tv": {"adstock": {"decay": 0.4}}}},
        {"channels": {"tv": {"roi": 2.0}}},
        {"link": "log"},
    ]
    names = {panel_simulation("tiny", change).folder_name for change in changes}
    assert len(names) == len(changes)
    assert panel_simulation("tiny", {"seed": None, "channels": None}) == TINY


def test_channels_are_changed_or_chosen() -> None:
    changed = panel_simulation("geo", {"channels": {"tv": {"roi": 9.0, "flight": {"campaigns": 3}}, "search": None}})
    tv = changed.channels[0]
    assert (tv.roi, tv.flight.campaigns, tv.flight.kind, tv.national) == (9.0, 3.0, "bursts", True)
    assert changed.channels[1] == PRESETS["geo"].channels[1]
    chosen = panel_simulation("geo", {"channels": ["email", "print", {"name": "podcast", "roi": 1.4}, {"name": "tv"}]})
    assert [channel.name for channel in chosen.channels] == ["print", "podcast", "tv", "email"], "organic ones last"
    truth = simulate_media_panel(chosen).truth
    np.testing.assert_allclose(truth.roi[:3], [0.8, 1.4, 1.5])


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"nose": {}}, r"data\.simulation\.nose does not exist.*Did you mean 'noise'"),
        ({"noise": {"family": "gausian"}}, r"data\.simulation\.noise\.family='gausian'.*mean 'gaussian'"),
        ({"noise": {"snr": -1}}, r"data\.simulation\.noise\.snr=-1: give a number above 0"),
        ({"noise": 3}, r"data\.simulation\.noise=3: give a mapping"),
        ({"periods": 12.5}, r"data\.simulation\.periods=12\.5: give a whole number from 8"),
        ({"periods": "long"}, r"data\.simulation\.periods='long'"),
        ({"media_share": 0.95}, r"data\.simulation\.media_share=0\.95.*up to 0\.8"),
        ({"endogeneity": {"biding": 1}}, r"data\.simulation\.endogeneity\.biding.*Did you mean 'bidding'"),
        ({"endogeneity": {"bidding": -1}}, r"data\.simulation\.endogeneity\.bidding=-1: give a number from 0"),
        ({"price": {"elasticity": 2}}, r"data\.simulation\.price\.elasticity=2.*up to 0"),
        ({"price": {"cross": 0.3}}, r"Price\.cross=0\.3.*own price"),
        ({"start": "2021-01-05"}, r"data\.simulation\.start='2021-01-05': weeks begin on Mondays; give 2021-01-04"),
        ({"start": "soon"}, r"data\.simulation\.start='soon': give a date"),
        ({"season": {"weekly": 0.1}}, r"data\.simulation\.season\.weekly=0\.1.*period: day"),
        ({"pre_period": 150}, r"data\.simulation\.pre_period=150.*156"),
        ({"subcategories": 4}, r"data\.simulation\.subcategories=4.*categories=0"),
        ({"noise": {"family": "lognormal"}}, r"data\.simulation\.noise\.family='lognormal'.*link=log"),
        ({"demand": {"sd": 0}, "endogeneity": {"bidding": 1}}, r"data\.simulation\.endogeneity\.bidding=1\.0.*demand"),
        ({"channels": {"tvv": {"roi": 1}}}, r"data\.simulation\.channels\.tvv is no.*Did you mean 'tv'"),
        ({"channels": {"tv": {"roy": 1}}}, r"data\.simulation\.channels\.tv\.roy does not exist.*mean 'roi'"),
        ({"channels": {"tv": {"adstock": {"decay": 1}}}}, r"channels\.tv\.adstock\.decay=1.*above 0 up to 0\.999"),
        ({"channels": ["tv", "serch"]}, r"data\.simulation\.channels\[1\]='serch'.*Did you mean 'search'"),
        ({"channels": ["tv", "tv"]}, r"channels=\['tv'\]: each name once"),
        ({"channels": ["tv", {"name": "price"}]}, r"data\.simulation\.channels='price': a column has this name"),
        ({"kpi": "discount"}, r"data\.simulation\.kpi='discount': a column"),
        ({"channels": "tv"}, r"data\.simulation\.channels='tv': give a mapping"),
        ({"channels": [{"roi": 1}]}, r"data\.simulation\.channels\[0\].*name"),
        ({"channels": []}, r"data\.simulation\.channels=\[\]: name at least one channel"),
        ({"kpi": "tv_spend"}, r"data\.simulation\.kpi='tv_spend': a column of a channel"),
        ({"start": "9999-12-27"}, r"data\.simulation\.start='9999-12-27': give a date from 1900 to 2100"),
        ({"season": {"spikes": 1e9}}, r"data\.simulation\.season\.spikes=1000000000.0: .*up to 366"),
        ({"endogeneity": {"bidding": 1e6}}, r"data\.simulation\.endogeneity\.bidding=1000000.0: .*up to 100"),
    ],
)
def test_wrong_options_are_named_with_the_choices(overrides: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        panel_simulation("geo", overrides, "data.simulation")


def test_wrong_presets_are_named() -> None:
    with pytest.raises(UserError, match=r"preset='gea'.*tiny, national.*Did you mean 'geo'"):
        panel_simulation("gea")
    with pytest.raises(UserError, match=r"^data\.preset='gea'"):
        panel_simulation("gea", None, "data.simulation")


def test_a_strength_without_anything_to_move_is_refused() -> None:
    with pytest.raises(UserError, match=r"endogeneity\.bursts=1\.0.*flight\.kind: bursts"):
        panel_simulation("tiny", {"endogeneity": {"bursts": 1}})
    quiet = {"season": {"yearly": 0.0, "holidays": 0.0}, "endogeneity": {"anticipation": 1}}
    with pytest.raises(UserError, match=r"endogeneity\.anticipation=1\.0.*nothing"):
        panel_simulation("national", quiet)


@pytest.mark.parametrize(
    ("preset", "overrides", "text"),
    [
        ("national", {"noise": {"snr": 0.02}}, r"would be -.*below 0.*noise\.snr"),
        ("national", {"level": 500, "noise": {"family": "negative_binomial", "snr": 1e4}}, r"noise\.snr=10000.*less"),
        (
            "national",
            {"periods": 20, "channels": {"social": {"flight": {"kind": "pulsed", "on": 1, "off": 4000}}}},
            r"social are never on the air",
        ),
    ],
)
def test_options_that_cannot_be_met_are_refused(preset: str, overrides: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        simulate_media_panel(panel_simulation(preset, overrides))
