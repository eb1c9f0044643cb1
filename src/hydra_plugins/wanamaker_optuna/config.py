"""The options of `hydra/sweeper=optuna`."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class OptunaSweeperConf:
    """Options of the search; each is set as `hydra.sweeper.<name>=...` or in a file of `configs/sweep/`."""

    _target_: str = "hydra_plugins.wanamaker_optuna.sweeper.OptunaSweeper"
    # Trials of the whole study, earlier sessions included. null: 20, or every point of the grid.
    n_trials: int | None = None
    # Trials asked for together and handed to the launcher as one batch. null: as many as it runs at a time.
    n_jobs: int | None = None
    # tpe, random, grid (every combination of choice() and range()), cmaes (numbers only).
    sampler: str = "tpe"
    # Of the sampler. null: the recipe's own seed. With one seed, a resumed study proposes what an unbroken one would.
    seed: int | None = None
    # Random trials before the sampler learns from results. null: 10 for tpe, 1 for cmaes.
    n_startup_trials: int | None = None
    # minimize or maximize. null: from the recipe's monitor.mode.
    direction: str | None = None
    # Any SQLAlchemy URL that Optuna takes. null: SQLite in the sweep folder.
    storage: str | None = None
    # null: the name of the experiment.
    study_name: str | None = None
    # Go on with the study of that name, if the storage has one; without it an existing study is an error.
    resume: bool = False
    # Stop as soon as more than this share of the planned trials has failed.
    max_failure_rate: float = 0.3
    # Trial 0 takes the recipe's own values, as far as they lie in the search space.
    start_from_recipe: bool = False
    # The search space in Hydra's grammar, flat or nested: {model.optimizer.lr: "tag(log, interval(1e-4, 1e-1))"}.
    # Ranges typed on the command line join it; a plain value typed there takes its key out.
    params: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="wanamaker")
