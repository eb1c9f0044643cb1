"""Columns of a table as inputs: what is filled, flagged, cut in pieces, and looked up."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wanamaker.nn.tabular import FeatureEncoder

NAN = float("nan")


def fitted(**options) -> FeatureEncoder:
    """Two numeric columns: one symmetric and complete, one of money with missing values."""
    encoder = FeatureEncoder(2, **options)
    quantiles = [[-2.0, -1.0, 0.0, 1.0, 2.0], [0.0, 5.0, 10.0, 40.0, 400.0]]
    encoder.fit([0.0, 60.0], [1.0, 100.0], [0.0, 0.2], quantiles)
    return encoder


def test_missing_becomes_the_mean_and_is_flagged_where_training_had_missing():
    encoder = fitted(log="none")
    x = encoder(torch.tensor([[NAN, NAN], [1.0, 160.0]]), torch.zeros(2, 0).long())
    assert x.tolist() == [[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]]


def test_skewed_money_is_logged_and_standardised():
    encoder = fitted()
    assert encoder.logged.tolist() == [False, True]
    steps = torch.tensor([0.0, 5.0, 10.0, 40.0, 400.0])
    x = encoder(torch.stack([torch.zeros(5), steps], 1), torch.zeros(5, 0).long())[:, 1]
    gaps = x.diff()
    assert gaps[-1] < 2.5 * gaps[1:-1].max()  # 360 units against 30
    assert x.abs().max() < 3
    # A broken number decides nothing.
    assert encoder(torch.tensor([[1e30, -1e30]]), torch.zeros(1, 0).long()).abs().max() <= 8


def test_pieces_fill_one_after_the_other():
    encoder = fitted(pieces=4, log="none")
    assert encoder.width == 2 * (2 + 4)
    values = torch.tensor([[-3.0, 0.0], [0.5, 10.0], [9.0, 400.0]])
    pieces = encoder(values, torch.zeros(3, 0).long())[:, 4:].reshape(3, 2, 4)
    assert pieces[:, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0.5, 0], [1, 1, 1, 1]]
    assert pieces[1, 1].tolist() == [1, 1, 0, 0]


def test_equal_quantiles_make_a_silent_piece():
    encoder = FeatureEncoder(1, pieces=2)
    encoder.fit([0.2], [0.4], [0.0], [[0.0, 0.0, 1.0]])
    x = encoder(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 0).long())
    assert x[:, 2:].tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("embed_above", [0, 10])
def test_an_unknown_category_is_the_mean_of_the_known(embed_above: int):
    torch.manual_seed(0)
    encoder = FeatureEncoder(0, [3], members=2, embed_above=embed_above)
    encoder.fit([], [], [], [])
    x = encoder(torch.zeros(4, 0), torch.tensor([[1], [2], [3], [0]]))
    assert x.shape == ((2, 4, 8) if embed_above == 0 else (4, 3))
    torch.testing.assert_close(x[..., 3, :], x[..., :3, :].mean(-2))


def test_members_have_tables_of_their_own():
    torch.manual_seed(0)
    encoder = FeatureEncoder(0, [40], members=2)
    x = encoder(torch.zeros(1, 0), torch.tensor([[7]]))
    x[0].sum().backward()
    gradient = encoder.tables[0].grad
    assert (gradient[0] != 0).any()
    assert (gradient[1] == 0).all()


def test_a_checkpoint_carries_the_statistics():
    made = fitted(pieces=2)
    copy = FeatureEncoder(2, pieces=2)
    copy.load_state_dict(made.state_dict())
    rows = torch.tensor([[0.3, 90.0], [NAN, NAN]])
    torch.testing.assert_close(copy(rows, torch.zeros(2, 0).long()), made(rows, torch.zeros(2, 0).long()))
    # Which columns are logged is kept as flags alone; where they are is found again, inside a larger net, too.
    assert not [name for name in made.state_dict() if "places" in name]
    whole = torch.nn.Sequential(FeatureEncoder(2, pieces=2))
    whole.load_state_dict({f"0.{name}": value for name, value in made.state_dict().items()})
    assert whole[0]._places.tolist() == made._places.tolist() == [1]
    unlogged = fitted(pieces=2, log="none")
    copy.load_state_dict(unlogged.state_dict())
    torch.testing.assert_close(copy(rows, torch.zeros(2, 0).long()), unlogged(rows, torch.zeros(2, 0).long()))


def test_encoding_never_asks_a_device_how_many():
    """Operations whose result's size depends on values make Python wait for a GPU at every batch."""
    names: list[str] = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(function.name())
            return function(*args, **(kwargs or {}))

    encoder = fitted(pieces=2)
    with Record():
        encoder(torch.tensor([[0.3, 90.0], [NAN, NAN]]), torch.zeros(2, 0).long())
    assert names
    assert not {"aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select"} & set(names)


@pytest.mark.parametrize("options", [{"log": "ln"}, {"pieces": -1}, {"embedding": 0}])
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(ValueError, match="FeatureEncoder"):
        FeatureEncoder(1, **options)


def test_nothing_to_encode_is_refused():
    with pytest.raises(ValueError, match="no column"):
        FeatureEncoder(0)
    encoder = FeatureEncoder(1, pieces=9)
    with pytest.raises(ValueError, match="pieces=9"):
        encoder.fit([0.0], [1.0], [0.0], [[0.0, 1.0]])
