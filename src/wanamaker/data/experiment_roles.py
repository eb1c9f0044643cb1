"""`ExperimentRoles`: which column of an experiment's table is the arm, an outcome, a feature, ...

id: customer                        null: the number of the row
treatment: segment                  the column that tells the arm
control: No E-Mail                  its value that stands for "nothing was sent"
arms: null                          every other value is an offer; or [Mens E-Mail, Womens E-Mail], in this order;
                                    or {any e-mail: [Mens E-Mail, Womens E-Mail]}, several values as one offer.
                                    Rows of values that are not named are scored, neither learnt nor tested.
outcomes: [visit, {name: spend, kind: zero_inflated, unit: USD}]       kind null: found in the data
features: null                      every column without another role; or a list
categorical: [zip_code]             names written as numbers; text is categorical by itself
drop: [name]                        columns that are no features
cost: cost                          money spent on the row, for reports
weight: weight                      customers the row stands for
probabilities: null                 estimate them; "equal" of the values in the file; or {No E-Mail: 0.5, ...}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from wanamaker.data.column_names import check_categorical, column_name, column_names
from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_roles import nearest
from wanamaker.data.uplift_batch import OUTCOME_KINDS
from wanamaker.errors import UserError

ROW = "row"  # what the schema calls the identifier of a table without one
_MOST_ARMS = 100  # where none are named
_SUM_SLACK = 1e-3  # of declared probabilities, which people round


@dataclass(frozen=True)
class OutcomeRole:
    """An outcome as it was declared.

    Attributes:
        name: of the column.
        kind: of `uplift_batch.OUTCOME_KINDS`; None: found in the data.
        unit: for tables and figures.
    """

    name: str
    kind: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class ExperimentRoles:
    """The declared role of each column; see the module text.

    Attributes:
        arms: name of an offer -> the values that stand for it; None: every value but the control is an offer.
        probabilities: None, "equal", or arm -> probability.
    """

    treatment: str
    control: str
    outcomes: tuple[OutcomeRole, ...]
    id: str | None = None
    arms: Mapping[str, tuple[str, ...]] | None = None
    features: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    cost: str | None = None
    weight: str | None = None
    probabilities: str | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        taken: dict[str, str] = {}
        for column, role in self._declared():
            if column in taken:
                raise UserError(
                    f"data.roles: column {column!r} is declared as {taken[column]} and as {role}; keep one of the two."
                )
            taken[column] = role
        for column in self.categorical:
            if taken.get(column, "feature") != "feature":
                raise UserError(
                    f"data.roles.categorical names {column!r}, which is declared as {taken[column]} and so no feature;"
                    " keep one of the two."
                )
        check_categorical(self.categorical, self.features)

    @classmethod
    def from_config(cls, roles: Mapping[str, Any] | ExperimentRoles) -> ExperimentRoles:
        """Read the mapping of the module text (YAML).

        Raises:
            UserError: a key is unknown or missing, or an entry does not say what it means.
        """
        if isinstance(roles, ExperimentRoles):
            return roles
        given = options_of("data.roles", roles, dict.fromkeys(f.name for f in fields(cls)))
        for needed, what in (
            ("treatment", "name the column that tells the arm"),
            ("control", "name the value of the treatment column that stands for no offer"),
            ("outcomes", "list the columns that the campaign is meant to move"),
        ):
            if given[needed] is None or given[needed] == []:
                raise UserError(f"data.roles.{needed} is missing: {what}.")
        control = value_text("data.roles.control", given["control"])
        return cls(
            treatment=column_name("data.roles.treatment", given["treatment"]),
            control=control,
            outcomes=_outcomes(given["outcomes"]),
            id=column_name("data.roles.id", given["id"], optional=True),
            arms=_arms(given["arms"], control),
            features=None if given["features"] is None else column_names("data.roles.features", given["features"]),
            categorical=column_names("data.roles.categorical", given["categorical"] or ()),
            drop=column_names("data.roles.drop", given["drop"] or ()),
            cost=column_name("data.roles.cost", given["cost"], optional=True),
            weight=column_name("data.roles.weight", given["weight"], optional=True),
            probabilities=_probabilities(given["probabilities"]),
        )

    @property
    def outcome_names(self) -> tuple[str, ...]:
        """Y columns."""
        return tuple(outcome.name for outcome in self.outcomes)

    def _declared(self) -> list[tuple[str, str]]:
        """(column, role) of every entry but `categorical`, which comes on top of being a feature."""
        one = [(self.id, "id"), (self.treatment, "treatment"), (self.cost, "cost"), (self.weight, "weight")]
        many = [(name, "outcome") for name in self.outcome_names] + [(name, "drop") for name in self.drop]
        many += [(name, "feature") for name in self.features or ()]
        return [(column, role) for column, role in one if column is not None] + many

    def check_columns(self, columns: Sequence[str], source: str, *, labels: bool, extra: Iterable[str] = ()) -> None:
        """Make sure that a header has what was declared.

        Args:
            columns: of the file.
            source: its name, for messages.
            labels: whether all of it must be there; otherwise the identifier alone, as for customers who are yet to be
                treated (features are looked for when it is known which a model wants).
            extra: other columns that must be there, such as that of the split.

        Raises:
            UserError: naming a missing column, its role and the nearest name.
        """
        wanted = [(column, f"data.roles: {role}") for column, role in self._declared()]
        wanted += [(column, "data.roles: categorical") for column in self.categorical]
        wanted += [(column, "data.split.column") for column in extra]
        taken = {column: role for column, role in self._declared() if role != "drop"}
        for column in extra:
            if column in taken:
                raise UserError(
                    f"data.split.column={column!r} is declared as {taken[column]} in data.roles, too: the split needs a"
                    " column of its own, which holds train, val, test or none."
                )
        for column, role in wanted:
            if column not in columns and (labels or column == self.id):
                raise UserError(f"{source} has no column {column!r} ({role}). {nearest(column, columns)}")

    def feature_columns(self, columns: Sequence[str], extra: Iterable[str] = ()) -> tuple[str, ...]:
        """The features among the columns of a file, in the file's order where none are declared.

        Args:
            columns: of the file.
            extra: columns with a role outside of these, such as that of the split.
        """
        if self.features is not None:
            return self.features
        taken = {column for column, _ in self._declared()} | set(extra)
        return tuple(column for column in columns if column not in taken)

    def arm_values(self, values: Iterable[str], source: str, others: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
        """Arm -> values of the treatment column, the control first, offers in the declared or the sorted order.

        Args:
            values: that the column has.
            source: name of the file, for messages.
            others: values that it has, too, and `arms` does not name.

        Raises:
            UserError: the control or a declared value is not there, or nothing else is.
        """
        known = sorted(values)
        place = f"column {self.treatment!r} of {source}"
        for value in (value for group in (self.arms or {}).values() for value in group):
            if value not in known:
                raise UserError(
                    f"data.roles.arms: {value!r} is not among the values of {place}."
                    f"{_as_written('data.roles.arms', value, [*known, *others])}"
                )
        if len(known) == 1:
            raise UserError(
                f"{place} has one value, {known[0]!r}: without treated and untreated customers there is no effect to"
                " learn. Check data.roles.treatment."
            )
        if self.control not in known:
            raise UserError(
                f"data.roles.control={self.control!r} is not among the values of {place}."
                f"{_as_written('data.roles.control', self.control, [*known, *others])}"
            )
        if self.arms is None and len(known) > _MOST_ARMS:
            raise UserError(
                f"{place} has {len(known):,} values, such as {known[0]!r} and {known[-1]!r}: more than there can be"
                " offers. Check data.roles.treatment, or name the offers in data.roles.arms."
            )
        if self.arms is None:
            return {self.control: (self.control,)} | {name: (name,) for name in known if name != self.control}
        return {self.control: (self.control,), **self.arms}

    def arm_probabilities(self, arms: Sequence[str]) -> tuple[float, ...]:
        """Of each arm, [K], or () where they have to be estimated.

        Raises:
            UserError: declared for other arms than there are.
        """
        if self.probabilities is None:
            return ()
        if isinstance(self.probabilities, str):  # of the values in the file; an offer that joins several has them all
            drawn = [1 if self.arms is None or name == self.control else len(self.arms[name]) for name in arms]
            return tuple(number / sum(drawn) for number in drawn)
        for name in arms:
            if name not in self.probabilities:
                raise UserError(f"data.roles.probabilities lacks arm {name!r}; it has {', '.join(self.probabilities)}.")
        for name in self.probabilities:
            if name not in arms:
                raise UserError(f"data.roles.probabilities names {name!r}, which is no arm. {nearest(name, arms)}")
        total = sum(self.probabilities.values())
        return tuple(self.probabilities[name] / total for name in arms)


def value_text(place: str, value: Any) -> str:
    """A value of a text column as the table gives it: YAML's `0` and `false` are "0" and "false"."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float) or value == "":
        raise UserError(f"{place}={value!r} must be a value of the treatment column.")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_written(place: str, value: str, known: Sequence[str]) -> str:
    """The way out where YAML read False or 0.0 for what a table has as text; else the nearest of its values."""
    for other in known:
        if other.casefold() == value.casefold() and value in ("true", "false"):
            return f" There is {other!r}: put it in quotes ({place}=\"'{other}'\")."
        try:
            same = float(other) == float(value)
        except ValueError:
            continue
        if same:
            return f" There is {other!r}: put it in quotes ({place}=\"'{other}'\")."
    return f" {nearest(value, known)}"


def _outcomes(value: Any) -> tuple[OutcomeRole, ...]:
    if isinstance(value, str | Mapping):
        value = [value]
    if not isinstance(value, Sequence):
        raise UserError(f"data.roles.outcomes={value!r} must be a list of columns, such as [visit].")
    roles = []
    for i, entry in enumerate(value):
        place = f"data.roles.outcomes[{i}]"
        if not isinstance(entry, Mapping):
            roles.append(OutcomeRole(column_name(place, entry)))
            continue
        given = options_of(place, entry, {"name": None, "kind": None, "unit": ""}, required=("name",))
        if given["kind"] not in (None, *OUTCOME_KINDS):
            raise UserError(f"{place}.kind={given['kind']!r}; choose from {', '.join(OUTCOME_KINDS)}, or null.")
        roles.append(OutcomeRole(column_name(f"{place}.name", given["name"]), given["kind"], str(given["unit"] or "")))
    return tuple(roles)


def _arms(value: Any, control: str) -> dict[str, tuple[str, ...]] | None:
    place = "data.roles.arms"
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence | Mapping):
        raise UserError(f"{place}={value!r} must be a list of values, or a mapping of an offer to its values.")
    if not isinstance(value, Mapping):
        value = {entry: [entry] for entry in (value_text(place, entry) for entry in value) if entry != control}
    arms: dict[str, tuple[str, ...]] = {}
    for name, group in value.items():
        if value_text(place, name) == control:
            raise UserError(f"{place}: {name!r} is the control (data.roles.control); give the offer another name.")
        group = [group] if isinstance(group, str | int | float) else group or ()
        if not isinstance(group, Sequence):
            raise UserError(f"{place}.{name}={group!r} must be a value of the treatment column, or a list of them.")
        arms[str(name)] = tuple(value_text(f"{place}.{name}", entry) for entry in group)
    used = [entry for group in arms.values() for entry in group]
    for entry in used:
        if entry == control or used.count(entry) > 1:
            both = "the control, too" if entry == control else "in two offers"
            raise UserError(f"{place}: {entry!r} is {both}; each value stands for one arm.")
    if not arms or not all(arms.values()):
        raise UserError(f"{place}={value!r} leaves an offer without values; name at least one.")
    return arms


def _probabilities(value: Any) -> str | dict[str, float] | None:
    place = "data.roles.probabilities"
    if value is None or value == "equal":
        return value
    if not isinstance(value, Mapping):
        raise UserError(f"{place}={value!r}; give null (estimate them), equal, or a mapping of arm to probability.")
    known: dict[str, float] = {}
    for name, share in value.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise UserError(f"{place}.{name}={share!r} must be a probability between 0 and 1.")
        known[value_text(place, name)] = float(share)
    if abs(sum(known.values()) - 1) > _SUM_SLACK:
        raise UserError(f"{place} sum to {sum(known.values()):g}; those of all arms together make 1.")
    return known
