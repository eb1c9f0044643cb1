"""What a training has left beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def training_history(run: Mapping[str, Any]) -> pd.DataFrame | None:
    """The curves of the training that made `run["checkpoint"]`, where they are still beside it.

    Raises:
        UserError: the file is there and cannot be read.
    """
    import pandas as pd

    checkpoint = run.get("checkpoint")
    if not checkpoint:
        return None
    folder = Path(str(checkpoint)).parent.parent
    for path in (folder / "csv" / "metrics.csv", folder / "metrics.csv"):
        if path.is_file():
            try:
                return pd.read_csv(path)
            except (OSError, ValueError) as error:  # ValueError: pandas' parser errors
                raise UserError(f"{path} cannot be read ({error}); move it away to do without the curves.") from error
    return None
