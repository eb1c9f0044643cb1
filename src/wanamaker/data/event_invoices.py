"""`InvoiceDataModule`: lines of invoices, read as customers who order again or do not.

Lines are cleaned, then the lines of one invoice become one event: a purchase with its amount, quantity and number of
products. Who does not buy again in a label window has the value 0 there, and is learnt from like everybody else.

Axis letters: L lines, E invoices, N customers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from wanamaker.data.column_names import column_name, one_or_more
from wanamaker.data.event_bucket import EventBucket
from wanamaker.data.event_features import WINDOWS
from wanamaker.data.event_history import microseconds, names_of, numbers_in
from wanamaker.data.event_log import EventLogDataModule
from wanamaker.data.event_options import EventOptions
from wanamaker.data.event_partition import LogColumns
from wanamaker.data.event_reader import EventReader
from wanamaker.data.event_roles import EventRoles
from wanamaker.data.panel_options import options_of
from wanamaker.data.passed_on import passed_on
from wanamaker.errors import UserError

AMOUNT, QUANTITY, PRODUCTS = "amount", "quantity", "products"
CLEANING = {"duplicates": True, "quantity": True, "price": True}


@dataclass(frozen=True)
class InvoiceRoles:
    """Columns of a table with one row per line of an invoice.

    Attributes:
        customer: who bought; lines without one are left out and counted.
        date: of the invoice.
        invoice: its number; lines with one number and one customer are one purchase.
        product: what was bought; None: products are not counted.
        quantity: units. price: of one unit.
        categorical: further names, of which the first line of an invoice counts.
    """

    customer: str
    date: str
    invoice: str
    quantity: str
    price: str
    product: str | None = None
    categorical: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, roles: Mapping[str, Any]) -> InvoiceRoles:
        """Roles of a data config.

        Raises:
            UserError: an unknown role, or one that is missing.
        """
        defaults = {field.name: None for field in fields(cls)} | {"categorical": ()}
        given = options_of("data.roles", roles, defaults, ("customer", "date", "invoice", "quantity", "price"))
        for name, value in given.items():
            given[name] = (
                one_or_more("data.roles.categorical", value)
                if name == "categorical"
                else column_name(f"data.roles.{name}", value, optional=name == "product")
            )
        made = cls(**given)
        columns = [made.customer, made.date, made.invoice, made.quantity, made.price, *made.categorical]
        columns += [made.product] if made.product else []
        for column in columns:
            if columns.count(column) > 1:
                raise UserError(f"data.roles: column {column!r} has two roles; give it one.")
        for column in made.categorical:
            if column in (AMOUNT, QUANTITY, PRODUCTS):
                raise UserError(f"data.roles.categorical: {column!r} is the name of a sum over lines; rename it.")
        return made

    def of_events(self) -> EventRoles:
        """Roles of the invoices that the lines become."""
        return EventRoles(
            id=self.customer,
            time=self.date,
            amount=AMOUNT,
            categorical=self.categorical,
            numeric=(QUANTITY, *((PRODUCTS,) if self.product else ())),
        )


@dataclass(frozen=True)
class InvoiceOptions(EventOptions):
    """What a recipe says about invoices.

    Attributes:
        lines: which column is what.
        drop: `CLEANING`: which lines are left out.
    """

    lines: InvoiceRoles | None = None
    drop: Mapping[str, bool] | None = None


class InvoiceReader(EventReader):
    """Positions of customers with invoices.

    Args:
        options: of the recipe.
    """

    options: InvoiceOptions

    def __init__(self, options: InvoiceOptions) -> None:
        super().__init__(options)
        self._dropped: dict[int, dict[str, int]] = {}

    def columns(self) -> LogColumns:
        lines = self.options.lines
        names = [name for name in (lines.invoice, lines.product, *lines.categorical) if name]
        return LogColumns(
            lines.customer,
            lines.date,
            categorical=tuple(names),
            numeric=(lines.quantity, lines.price),
            **self.options.writing,
        )

    def arranged(self, bucket: EventBucket, number: int) -> EventBucket:
        """Invoices instead of lines."""
        bucket, self._dropped[number] = cleaned(bucket, self.options.lines, self.options.drop)
        return invoices_of(bucket, self.options.lines)

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> lines that were left out, of the buckets that were looked at."""
        found: dict[str, int] = {}
        for counts in self._dropped.values():
            for reason, count in counts.items():
                found[reason] = found.get(reason, 0) + count
        return found

    def said(self) -> list[str]:
        lost = [f"{count:,} lines were left out: {reason}." for reason, count in self.dropped.items() if count]
        return super().said() + lost


def cleaned(bucket: EventBucket, lines: InvoiceRoles, drop: Mapping[str, bool]) -> tuple[EventBucket, dict[str, int]]:
    """The lines that count, and how many were left out by reason.

    Args:
        bucket: of lines.
        lines: which column is what.
        drop: see `CLEANING`; a duplicate is a line that says the same as an earlier one in every column that is read.
    """
    import pandas as pd

    quantity, price = numbers_in(bucket.columns[lines.quantity]), numbers_in(bucket.columns[lines.price])
    dropped = {}
    kept = np.isfinite(quantity) & np.isfinite(price)
    dropped["quantity or price is empty"] = int((~kept).sum())
    if drop["duplicates"]:
        alike = {"owner": bucket.owner, "time": microseconds(bucket.columns[lines.date])}
        for name in (lines.invoice, lines.product, *lines.categorical):
            if name:
                alike[name] = names_of(bucket.columns[name]).code
        again = pd.DataFrame({**alike, "quantity": quantity, "price": price}).duplicated().to_numpy()
        dropped["the same as an earlier line"] = int((kept & again).sum())
        kept &= ~again
    for name, values in (("quantity", quantity), ("price", price)):
        if drop[name]:
            dropped[f"{name} is 0 or below"] = int((kept & (values <= 0)).sum())
            kept &= values > 0
    places = np.flatnonzero(kept)
    counts = np.bincount(bucket.owner[places], minlength=len(bucket.ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return EventBucket(bucket.ids, offsets, {n: c.take(places) for n, c in bucket.columns.items()}), dropped


def invoices_of(bucket: EventBucket, lines: InvoiceRoles) -> EventBucket:
    """One event per invoice of a customer, at the time of its first line.

    Its amount is the sum of quantity x price, in which a line that was sent back and kept (`drop.quantity: false`) is
    negative.
    """
    import pyarrow as pa

    owner, time = bucket.owner, microseconds(bucket.columns[lines.date])
    number = names_of(bucket.columns[lines.invoice]).code
    product = names_of(bucket.columns[lines.product]).code if lines.product else np.zeros(len(time), np.int32)
    order = np.lexsort((product, time, number, owner))
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(owner[order]) != 0) | (np.diff(number[order]) != 0)
    at = np.flatnonzero(begins)
    first = order[at]  # the earliest line of each invoice
    invoice = np.cumsum(begins) - 1
    quantity = numbers_in(bucket.columns[lines.quantity])
    amount = quantity * numbers_in(bucket.columns[lines.price])
    by_product = np.lexsort((product[order], invoice))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(invoice[by_product]) != 0) | (np.diff(product[order][by_product]) != 0)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(invoice, values, minlength=len(at))

    sums = {AMOUNT: total(amount[order]), QUANTITY: total(quantity[order])}
    if lines.product:
        sums[PRODUCTS] = total(new[np.argsort(by_product)].astype(np.float64))
    turn = np.lexsort((number[first], time[first], owner[first]))
    columns: dict[str, Any] = {lines.date: np.asarray(bucket.columns[lines.date])[first][turn]}
    columns |= {name: pa.array(values[turn]) for name, values in sums.items()}
    columns |= {name: bucket.columns[name].take(first[turn]) for name in lines.categorical}
    counts = np.bincount(owner[first], minlength=len(bucket.ids))
    return EventBucket(bucket.ids, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), columns)


class InvoiceDataModule(EventLogDataModule):
    """Lines of invoices in CSV or Parquet files, in any order.

    Args:
        path: The lines: a file, a folder of shards, or several.
        roles: Which column is what; see `InvoiceRoles`.
        tasks: What is to be foretold of the invoices, which are events of the type "purchase"; see
            `event_tasks.parse_tasks`. `sum: amount` is quantity x price.
        drop: `{duplicates, quantity, price}`: lines that are left out and counted: exact duplicates, a quantity or a
            price of 0 or below. Lines without a customer always are.

    The other arguments are those of `EventLogDataModule`, without `purchases` and `until`: an invoice has no type.
    """

    reader_type = InvoiceReader

    def __init__(
        self,
        *,
        path: Any,
        roles: Mapping[str, Any],
        tasks: Sequence[Any],
        as_of: Any = None,
        embargo: float = 0,
        drop: Mapping[str, Any] | None = None,
        customers: Mapping[str, Any] | None = None,
        features: Sequence[str] = ("rfm", "intervals", "momentum", "recent", "columns"),
        windows: Sequence[int] = WINDOWS,
        history: Mapping[str, Any] | None = None,
        log_end: str | None = None,
        split: Mapping[str, Any] | None = None,
        time_format: str | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
        checks: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        max_categories: int = 1000,
        events_in_memory: int = 5_000_000,
        cache_dir: str | None = None,
        buckets: int | None = None,
        lanes: int = 4,
        batch_size: int = 1024,
        eval_batch_size: int = 8192,
        bucket_batches: int = 50,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        given = locals()
        lines = InvoiceRoles.from_config(roles)
        cleaning = options_of("data.drop", drop, CLEANING)
        for name, value in cleaning.items():
            if not isinstance(value, bool):
                raise UserError(f"data.drop.{name}={value!r}; say true or false.")
        super().__init__(**passed_on(EventLogDataModule, given, roles=lines.of_events()))
        self.options = self.options.extended(InvoiceOptions, lines=lines, drop=cleaning)
