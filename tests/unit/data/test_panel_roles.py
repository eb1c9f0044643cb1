"""Declared roles: every form is read, every contradiction is refused with its place."""

from typing import Any

import pytest

from wanamaker.data.panel_roles import Channel, DateRole, PanelRoles, nearest
from wanamaker.errors import UserError

BASE: dict[str, Any] = {"date": "day", "kpi": "sales"}


def test_lists_and_mappings_mean_the_same() -> None:
    short = PanelRoles.from_config({**BASE, "media": ["tv"], "organic": ["mail"], "control": ["nps"]})
    long = PanelRoles.from_config(
        {
            **BASE,
            "media": {"tv": {"spend": "tv"}},
            "organic": {"mail": {"exposure": "mail"}},
            "control": {"nps": {"column": "nps", "direction": "any"}},
        }
    )
    assert short == long
    assert short.channels == (Channel("tv", spend="tv"), Channel("mail", exposure="mail"))
    assert [channel.paid for channel in short.channels] == [True, False]
    assert PanelRoles.from_config(short) is short


def test_every_column_once_and_its_role() -> None:
    roles = PanelRoles.from_config(
        {
            "date": {"column": "week", "origin": "2015-06-28", "step": "W-SUN"},
            "kpi": "gmv",
            "series": ["store", "brand"],
            "hierarchy": {"brand": "brand", "chain": "chain"},
            "media": {
                "video": {"spend": "cost", "reach": "reach", "frequency": "freq"},
                "search": {"spend": "search_cost", "exposure": "clicks"},
            },
            "price": {
                "own": {"columns": {1: "p1", 2: "p2"}, "match": "brand", "direction": "own"},
                "others": {"columns": {1: "p1", 2: "p2"}, "others_of": "brand", "direction": "cross"},
            },
            "promotion": {"deal": {"column": "deal", "direction": "down"}},
            "population": "people",
        }
    )
    assert roles.date == DateRole("week", origin="2015-06-28", step="W-SUN")
    assert roles.key_columns == ("week", "store", "brand", "chain")
    assert set(roles.number_columns) == {
        "gmv", "cost", "reach", "freq", "search_cost", "clicks", "p1", "p2", "deal", "people",
    }  # fmt: skip
    assert len(roles.columns) == len(set(roles.columns)) == 14
    assert [driver.direction for driver in roles.drivers] == [-1, 1, -1]
    assert roles.role_of("reach") == "reach of video"
    assert roles.role_of("p2") == "price own"
    assert roles.role_of("week") == "date"
    assert roles.channels[0].media == "reach"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kpi": None}, "roles.kpi is missing"),
        ({"medai": ["tv"]}, "Did you mean 'media'?"),
        ({"series": "geo"}, "must be a list of columns, such as [geo]"),
        ({"media": {"tv": {"exposure": "grp"}}}, "roles.media.tv has no spend"),
        ({"media": {"tv": {"spend": "s", "reach": "r"}}}, "reach and frequency go together"),
        ({"media": {"tv": {"spend": "s", "reach": "r", "frequency": "f", "exposure": "e"}}}, "one of them"),
        ({"media": {"tv": {"cost": "s"}}}, "roles.media.tv has no entry 'cost'"),
        ({"media": ["tv", "tv"]}, "'tv' twice"),
        ({"media": ["tv"], "organic": ["tv"]}, "'tv' twice"),
        ({"media": ["tv"], "control": ["tv"]}, "name of two inputs"),
        ({"media": ["sales"]}, "is the KPI and also part of the channel 'sales'"),
        ({"control": ["sales"]}, "is the KPI and also the control 'sales'"),
        ({"series": ["sales"]}, "is the KPI and also the date, a series key"),
        ({"organic": {"mail": {}}}, "names no column"),
        ({"price": {"own": {"column": "p", "direction": "down"}}}, "choose from own, cross, any"),
        ({"price": {"own": {"columns": {1: "p", 2: "q"}, "match": "brand"}}}, "not among the series keys []"),
        ({"price": {"own": {"columns": {1: "p", 2: "q"}}}}, "needs one of `match` and `others_of`"),
        ({"price": {"own": {"column": "p", "columns": {1: "p", 2: "q"}}}}, "either `column`, or `columns`"),
        ({"series": ["b"], "price": {"x": {"columns": {1: "p"}, "others_of": "b"}}}, "2 or more"),
        ({"series": ["b"], "control": {"x": {"columns": {1: "p", 2: "q"}, "others_of": "b"}}}, "is for prices"),
        ({"date": {"column": "w", "origin": "2020-01-06"}}, "`origin` and `step` go together"),
        ({"date": {"origin": "2020-01-06", "step": "D"}}, "roles.date.column is missing"),
        ({"date": {"column": "w", "origin": "2020-01-06", "step": "D", "format": "%d"}}, "give one of them"),
        ({"media": ["tv"], "fill": {"tvv": 0}}, "Did you mean 'tv'?"),
        ({"media": ["tv"], "fill": {"tv": "zero"}}, "roles.fill.tv='zero' must be a number"),
        ({"kpi_value": 0}, "must be above 0"),
        ({"kpi_value": float("inf")}, "roles.kpi_value=inf must be a number"),
        ({"price_log": "no"}, "roles.price_log='no' must be true or false"),
        ({"kpi_log": 1}, "roles.kpi_log=1 must be true or false"),
        ({"kpi_unit": ["EUR"]}, "roles.kpi_unit=['EUR'] must be a word"),
        ({"population": ["pop"]}, "roles.population=['pop'] must be the name of a column"),
        ({"price": 3}, "roles.price=3 must be a list of columns"),
        ({"media": {"tv": {"spend": "tv", "shared": "half"}}}, "choose from equal, population"),
        ({"media": {"tv": {"spend": "tv", "shared": "population"}}}, "roles.population names no column"),
    ],
)
def test_contradictions(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as raised:
        PanelRoles.from_config({**BASE, **change})
    assert says in str(raised.value)


def test_shared_media_is_for_paid_channels_that_say_nothing_else() -> None:
    roles = PanelRoles.from_config(
        {
            **BASE,
            "media": {"tv": {"spend": "tv"}, "radio": {"spend": "radio", "shared": "population"}},
            "organic": ["mail"],
            "shared_media": "equal",
            "population": "people",
        }
    )
    assert [channel.shared for channel in roles.channels] == ["equal", "population", None]


def test_nearest_ignores_case_and_spaces() -> None:
    assert nearest("affiliates", ["TV", " Affiliates"]) == "Did you mean ' Affiliates'?"
    assert nearest("xyz", ["TV", "Radio"]) == "There are 'TV', 'Radio'."
