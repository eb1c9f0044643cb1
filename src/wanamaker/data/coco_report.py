"""What a check of a COCO file found: findings with ids and a remedy, and one readable report per file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wanamaker.errors import UserError

MAX_EXAMPLES = 5
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class CheckFinding:
    """One kind of problem in one file.

    Attributes:
        severity: `error` stops the run, `warning` is handled and counted, `note` is only said.
        kind: What is wrong, in a few words.
        count: How many entries or files.
        examples: The first few, with ids.
        remedy: What to do, or what is done about it.
    """

    severity: Severity
    kind: str
    count: int
    examples: tuple[str, ...] = ()
    remedy: str = ""

    def render(self) -> str:
        """The finding on one or two lines."""
        more = ", ..." if self.count > len(self.examples) > 0 else ""
        listed = f": {', '.join(self.examples)}{more}" if self.examples else ""
        line = f"  {self.severity:<7} {self.kind} ({self.count}){listed}"
        return f"{line}\n          {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class CocoReport:
    """Everything found in one annotation file and its image folder."""

    path: Path
    num_images: int
    num_annotations: int
    num_categories: int
    findings: tuple[CheckFinding, ...] = ()

    def of(self, severity: str) -> list[CheckFinding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def count(self, kind: str) -> int:
        """How many entries have this kind of problem."""
        return sum(finding.count for finding in self.findings if finding.kind == kind)

    def render(self) -> str:
        """The report as text, worst first."""
        head = (
            f"{self.path}: {self.num_images} images, {self.num_annotations} boxes, {self.num_categories} categories;"
            f" {len(self.of('error'))} kinds of error, {len(self.of('warning'))} of warning"
        )
        ordered = [*self.of("error"), *self.of("warning"), *self.of("note")]
        return "\n".join([head, *(finding.render() for finding in ordered)])


def raise_errors(reports: Iterable[CocoReport]) -> None:
    """Raise one `UserError` with the full text of every report that has an error."""
    broken = [report for report in reports if report.of("error")]
    if broken:
        text = "\n".join(report.render() for report in broken)
        raise UserError(f"The annotations cannot be trained on as they are.\n{text}")


def finding(severity: Severity, kind: str, examples: Iterable[str], count: int, remedy: str) -> CheckFinding:
    return CheckFinding(severity, kind, count, tuple(examples)[:MAX_EXAMPLES], remedy)
