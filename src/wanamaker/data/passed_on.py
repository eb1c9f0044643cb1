"""Arguments that a data module takes only to pass them on.

A recipe's keys are checked against the signature of the class that it names, so every class writes all of its arguments
out; handing them on needs no second list.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def passed_on(base: type, given: Mapping[str, Any], **said: Any) -> dict[str, Any]:
    """Arguments for ``base.__init__``: those of the same name in `given` as they are, but for what is `said`.

    Args:
        base: The class to be initialised.
        given: The caller's ``locals()``, taken before anything else has a name there.
        **said: Arguments that are other than the caller's own, or that it does not have.
    """
    return arguments_of(base, given) | said


def arguments_of(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a function (or a class) takes of what is given."""
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}
