"""Customer segments: what k-means finds, its numbers, and the ways a customer table can be wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.customer_segments import segment_customers
from wanamaker.errors import UserError

CENTRES = np.array([[20, 9_000], [20.5, 1_000], [50, 5_000], [80, 2_000]], float)


def customers(each: int = 30, seed: int = 0) -> pd.DataFrame:
    """Four clear groups of ages and incomes, in mixed order."""
    rng = np.random.default_rng(seed)
    who = rng.permutation(np.repeat(np.arange(4), each))
    values = CENTRES[who] + rng.normal(size=(len(who), 2)) * [0.1, 150]
    return pd.DataFrame({"age": values[:, 0], "income": values[:, 1], "truth": who})


@pytest.mark.parametrize("scale", ["minmax", "standard"])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_groups_are_found_and_numbered_by_centroid(scale: str, seed: int) -> None:
    frame = customers()
    found = segment_customers(frame, ["age", "income"], 4, scale, seed)
    np.testing.assert_array_equal(found.labels, frame["truth"], "ascending in the first feature, whatever the start")
    np.testing.assert_allclose(found.centroids, frame.groupby("truth")[["age", "income"]].mean())
    assert found.sizes.tolist() == [30] * 4
    assert found.silhouette > 0.8
    assert len(found.wcss) == 10
    assert (np.diff(found.wcss) < 0).all()
    assert found.wcss[3] == pytest.approx(found.inertia)
    assert found.names == ("segment_1", "segment_2", "segment_3", "segment_4")


def test_numbers_do_not_depend_on_the_order_of_the_rows() -> None:
    frame = customers()
    one, two = (segment_customers(x, ["age", "income"], 4) for x in (frame, frame.iloc[::-1]))
    np.testing.assert_array_equal(one.labels, two.labels[::-1])


def test_ties_in_the_first_feature_go_to_the_second() -> None:
    frame = pd.DataFrame({"a": [0, 0, 0, 0, 9, 9], "b": [7, 7, 1, 1, 4, 4]})
    found = segment_customers(frame, ["a", "b"], 3)
    assert found.labels.tolist() == [1, 1, 0, 0, 2, 2]
    assert found.centroids.tolist() == [[0, 1], [0, 7], [9, 4]]
    assert len(found.wcss) == 3, "there are three distinct customers"


def test_units_decide_only_where_they_are_kept() -> None:
    """In the units of the file the income decides: two groups by income, not by age."""
    frame = customers()
    kept = segment_customers(frame, ["age", "income"], 2, "none")
    assert len(set(kept.labels[frame["truth"] == 0]) | set(kept.labels[frame["truth"] == 1])) == 2
    assert kept.inertia > 1e6


def test_everyone_a_segment_has_no_silhouette() -> None:
    found = segment_customers(pd.DataFrame({"a": range(12)}), ["a"], 12)
    assert np.isnan(found.silhouette)
    assert found.names[:2] == ("segment_01", "segment_02"), "names sort as numbers do"
    assert sorted(found.names) == list(found.names)
    assert len(found.wcss) == 10


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"features": ["age", "incme"]}, r"'incme' is no column\. Did you mean 'income'"),
        ({"age": [None, *[1.0] * 119]}, {}, r"'age' has no number for 1 of 120 customers, first .* in row 0"),
        ({"age": ["young"] * 120}, {}, r"'age' has no number for 120 of 120 customers, first 'young'"),
        ({"age": [np.inf] + [1.0] * 119}, {}, r"'age' has no number for 1"),
        ({"age": [3.0] * 120}, {}, r"'age' is the same for all customers; leave it out"),
        ({"age": [1.0, 2.0] * 60, "income": [5, 6] * 60}, {}, r"clusters=5, but there are 2 distinct customers .*=2"),
        ({}, {"clusters": 1}, r"clusters=1; give a number of segments, 2 or more"),
        ({}, {"clusters": 2.5}, r"clusters=2\.5"),
        ({}, {"scale": "max"}, r"scale='max'; choose from minmax, standard, none"),
        ({}, {"seed": -1}, r"seed=-1"),
        ({}, {"features": "age"}, r"features='age'; list columns"),
        ({}, {"features": []}, r"features=\[\]; list columns"),
        ({}, {"features": ["age", "age"]}, r"names a column twice"),
    ],
)
def test_user_errors(change: dict, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        segment_customers(customers().assign(**change), **{"features": ["age", "income"], **options})


@pytest.mark.realdata
def test_mall_customers(data_dir: Path) -> None:
    """The published segmentation of System 1: five segments by income and spending score."""
    folder = data_dir / "segmentation" / "mall_customers"
    features = ["Annual Income (k$)", "Spending Score (1-100)"]
    found = segment_customers(pd.read_csv(folder / "Customer_Data.csv"), features, 5, "minmax", 42)
    assert found.inertia == pytest.approx(3.583, abs=5e-4)
    assert found.silhouette == pytest.approx(0.559, abs=5e-4)
    assert sorted(found.sizes, reverse=True) == [81, 39, 35, 23, 22]
    expected = [23.04, 13.99, 9.06, 6.11, 3.58, 3.10, 2.63, 2.22, 1.89, 1.69]
    np.testing.assert_allclose(found.wcss, expected, atol=0.02)
    assert found.centroids[:, 0].tolist() == sorted(found.centroids[:, 0])
    np.testing.assert_allclose(found.centroids[2], [55.3, 49.5], atol=0.1)
