"""The exceptions that are not defects: a mistake the user can mend, and a request to stop; and what a mistake meant."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in a command, a recipe or a file that its author can put right.

    The message names the offending value, the place it stands and the remedy. Entry points print it without a
    traceback and exit with status 2; anything else that escapes is a defect of ours and keeps its traceback.
    """


class Preempted(SystemExit):
    """The run was told to stop and has saved its state; the exit status is 128 + the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


def nearest(word: str, choices: Iterable[str]) -> str:
    """`" Did you mean 'x'?"`, or the choices when few, or nothing."""
    choices = sorted(set(choices))
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Choose from: {', '.join(choices)}." if 0 < len(choices) <= 30 else ""
