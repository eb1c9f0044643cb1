"""The exceptions that are not defects: a mistake the user can mend, and a request to stop."""


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
