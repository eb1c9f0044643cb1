"""What the checks of a panel found: findings with place, consequence and remedy, and one readable report."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal

from wanamaker.data.panel_dates import day_text
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class PanelFinding:
    """One kind of problem at one column or series.

    Attributes:
        severity: `error` stops the run, `warning` is logged.
        kind: what is wrong, in a few words.
        where: column, row, series, date and value of the first occurrence.
        consequence: what would follow from it.
        remedy: what to do.
        count: how many occurrences.
    """

    severity: Severity
    kind: str
    where: str
    consequence: str = ""
    remedy: str = ""
    count: int = 1

    def render(self) -> str:
        """The finding on two lines."""
        times = f" (first of {self.count:,})" if self.count > 1 else ""
        line = f"  {self.severity:<7} {self.kind}: {self.where}{times}"
        more = " ".join(text for text in (self.consequence, self.remedy) if text)
        return f"{line}\n          {more}" if more else line


@dataclass(frozen=True)
class PanelReport:
    """Everything found in one panel; see the module text for what is fatal."""

    source: str
    findings: tuple[PanelFinding, ...] = ()

    def of(self, severity: str) -> list[PanelFinding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def render(self) -> str:
        """The report as text, errors first."""
        errors, warnings = self.of("error"), self.of("warning")
        counts = [
            f"{len(found)} {word}{'' if len(found) == 1 else 's'}"
            for found, word in ((errors, "error"), (warnings, "warning"))
            if found
        ]
        head = f"{self.source}: {', '.join(counts) or 'nothing found'}"
        return "\n".join([head, *(finding.render() for finding in (*errors, *warnings))])

    def settle(self) -> None:
        """Raise one `UserError` with all findings if one is an error; otherwise log the warnings."""
        if self.of("error"):
            raise UserError(f"The panel cannot be used as it is.\n{self.render()}")
        if self.findings:
            log.warning("%s", self.render())


def place_text(row: int | None, series: str | None, day: int | None) -> str:
    """ "row 17 (series 'north', 2020-03-01)", with what is known of it."""
    inner = [f"series {series!r}"] if series is not None else []
    inner += [day_text(day)] if day is not None else []
    known = f" ({', '.join(inner)})" if inner else ""
    return (f"row {row}" if row is not None else "a missing row") + known


def text_finding(column: str, role: str, place: str, text: object, count: int) -> PanelFinding:
    """A cell of a number column that holds no number; `place` names row, series and date."""
    shown = str(text).strip()
    remedy = "Write a number, or leave the cell empty."
    if re.fullmatch(r"[-+]?\d{1,3}([,' \u00a0\u202f]\d{3})+(\.\d+)?", shown):
        remedy = f"It has thousands separators: write {re.sub('[^-+.0-9]', '', shown)} instead."
    elif re.fullmatch(r"[-+]?\d{1,3}(\.\d{3})+(,\d+)?", shown) or re.fullmatch(r"[-+]?\d+,\d+", shown):
        plain = shown.replace(".", "").replace(",", ".")
        remedy = (
            f"It has a decimal comma: write {plain} instead, or pass data.decimal=',' if there are no thousands "
            "separators."
        )
    elif re.fullmatch(r"[^\d\s]{1,3}\s?[-+.,\d]+|[-+.,\d]+\s?[^\d\s]{1,3}", shown):
        remedy = "It has a unit: write the number alone and declare the unit in the roles (money_unit, kpi_unit)."
    named = f" ({role})" if role and role != column else ""
    where = f"column {column!r}{named}, {place} is {shown!r}"
    return PanelFinding("error", "text in a number column", where, "It cannot be added up.", remedy, count)
