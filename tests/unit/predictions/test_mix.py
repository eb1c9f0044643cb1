"""The artefact of the mix models: written, read, joined, and refused where it cannot be right."""

import dataclasses

import numpy as np
import pytest
from tests.unit.decisions.mix_example import example

from wanamaker.errors import UserError
from wanamaker.predictions import Detections, MixPredictions, read_predictions


def same(one: MixPredictions, other: MixPredictions) -> None:
    for holder_one, holder_other in ((one, other), (one.response, other.response)):
        for field in dataclasses.fields(holder_one):
            a, b = getattr(holder_one, field.name), getattr(holder_other, field.name)
            if field.name == "response":
                continue
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b, err_msg=field.name)
                assert a.dtype == b.dtype, field.name
            else:
                assert a == b, field.name


@pytest.mark.parametrize("frequency", [False, True])
@pytest.mark.parametrize("link", ["identity", "log"])
def test_written_and_read(link, frequency, tmp_path):
    made = example(link=link, frequency=frequency)
    path = made.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mix.npz", "mix.parquet"]
    same(made, MixPredictions.read(tmp_path))
    same(made, read_predictions(path))


@pytest.mark.parametrize("frequency", [False, True])
def test_joined_in_any_order_each_row_once(frequency):
    whole = example(frequency=frequency)
    N = len(whole)
    parts = [whole.select(np.arange(N // 2, N)), whole.select(np.arange(0, N // 2 + 3))]
    same(whole, MixPredictions.concat(parts))
    with pytest.raises(ValueError, match="Nothing to join"):
        MixPredictions.concat([])
    other = dataclasses.replace(whole, part_names=tuple(reversed(whole.part_names)))
    with pytest.raises(ValueError, match="different models"):
        MixPredictions.concat([whole, other])


def test_draws_are_on_the_scale_of_the_kpi():
    for link in ("identity", "log"):
        made = example(link=link)
        eta = made.parts.astype(np.float64).sum(-1)
        np.testing.assert_allclose(made.draws, np.exp(eta) if link == "log" else eta)
    frame = example().to_frame()
    assert len(frame) == len(example())
    assert {"series", "date", "split", "kpi", "prediction"} < set(frame.columns)


def test_a_model_without_drivers_is_written_too(tmp_path):
    made = example()
    response = dataclasses.replace(
        made.response,
        drivers=(),
        driver_kind=(),
        driver_transform=(),
        **{
            name: getattr(made.response, name)[..., :0]
            for name in ("driver_reference", "driver_min", "driver_max", "driver_amplitude")
        },
        driver_grid=np.zeros((0, 5)),
        driver_curve=np.zeros((made.response.num_draws, 0, 5)),
        driver_slope=np.zeros((made.response.num_draws, 0, 5)),
        own_price=np.full(len(made.response.series), -1),
    )
    bare = dataclasses.replace(made, driver=np.zeros((len(made), 0)), response=response)
    bare.write(tmp_path)
    same(bare, MixPredictions.read(tmp_path))


def test_what_cannot_be_right_is_refused(tmp_path):
    made = example()
    broken = made.parts.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not all finite"):
        dataclasses.replace(made, parts=broken)
    with pytest.raises(ValueError, match="must ascend"):
        dataclasses.replace(made, row=made.row[::-1])
    with pytest.raises(ValueError, match="choose from identity, log"):
        dataclasses.replace(made.response, link="logit")
    with pytest.raises(ValueError, match=r"amplitude|shape"):
        dataclasses.replace(made.response, curve=made.response.curve[:, :, 1:])
    with pytest.raises(ValueError, match="part_kinds"):
        dataclasses.replace(made, part_kinds=("weather",) * len(made.part_kinds))


def test_damaged_and_foreign_files_are_told(tmp_path):
    made = example()
    made.write(tmp_path)
    (tmp_path / "mix.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"Cannot read .*mix\.npz"):
        MixPredictions.read(tmp_path)
    (tmp_path / "mix.npz").unlink()
    with pytest.raises(UserError, match=r"mix\.npz"):
        MixPredictions.read(tmp_path)
    other = tmp_path / "other"
    none = np.zeros(0)
    Detections(none, none, none, none, ["a"], np.array([1])).write(other)
    with pytest.raises(UserError, match="not 'mix'"):
        MixPredictions.read(other / "detections.parquet")
