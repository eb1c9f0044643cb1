"""`SimulatedData`: what data modules share whose data are simulated on first use, kept in a cache, and then read as any
others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L

from wanamaker.data.simulate.kept import KeptSimulation
from wanamaker.errors import UserError


class SimulatedData(L.LightningDataModule):
    """Stands before the data module that reads the data in the list of bases.

    A changed option makes a new folder beside the old one. A subclass calls `simulated_in` before the reader's
    `__init__`, and has a `truth`.

    Attributes:
        kept: The kind of data.
        simulation: Its options.
        simulated_dir: Where the data lie, or will.
    """

    kept: ClassVar[KeptSimulation]

    simulation: Any
    simulated_dir: Path

    def simulated_in(self, cache_dir: Path | str, simulation: Any) -> Path:
        """Remember the options, and where the data belong; that folder."""
        self.simulation, self._cache = simulation, Path(cache_dir)
        self.simulated_dir = self.kept.folder(cache_dir, simulation)
        return self.simulated_dir

    @property
    def is_large(self) -> bool:
        """Whether making the data takes more than a few seconds: then they are made when training starts."""
        return False

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Make the data, which takes a moment, and check them as any other; large ones are made when training starts.

        Raises:
            UserError: options that cannot be met, a cache that cannot be written, what the reader finds.
        """
        if self.is_large and not self.kept.is_complete(self.simulated_dir):
            return
        self.prepare_data()
        super().preflight(stages)

    def prepare_data(self) -> None:
        self.kept.ensure(self._cache, self.simulation)

    def setup(self, stage: str | None = None) -> None:
        self.complete_dir()
        super().setup(stage)

    def complete_dir(self) -> Path:
        """The folder of the data.

        Raises:
            UserError: they are not made yet.
        """
        if not self.kept.is_complete(self.simulated_dir):
            thing = self.kept.thing
            raise UserError(
                f"{self.simulated_dir} holds no simulated {thing} yet: prepare_data() makes it; call it first."
            )
        return self.simulated_dir
