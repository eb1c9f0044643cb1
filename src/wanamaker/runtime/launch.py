"""From the command line to a run: claim an id, compose, check, and start as many processes as the run needs."""

import difflib
import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from wanamaker.errors import UserError
from wanamaker.runtime.leave import leave

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(entry: str) -> int:
    """Run `train` or `evaluate` and return the exit status: 2 for a mistake of the user, told in one message.

    A rank that torchrun or srun has started does not return; it leaves with that status.
    """
    if not in_rank():
        return _guarded(entry)
    try:
        status = _guarded(entry)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    leave(status)


def _guarded(entry: str) -> int:
    from hydra.errors import CompactHydraException

    from wanamaker.runtime.processes import RankFailed

    try:
        return _main(entry, sys.argv[1:])
    except UserError as error:
        return _report(error, status=2)
    except (RankFailed, CompactHydraException) as error:
        return _report(error, status=1)


def _report(error: Exception, status: int) -> int:
    sys.stdout.flush()
    if os.environ.get("RANK", "0") == "0" or status != 2:
        print(f"\nError: {error}", file=sys.stderr, flush=True)
    return status


def _main(entry: str, argv: list[str]) -> int:
    root = Path(sys.argv[0]).resolve().parent
    config_dir = root / "configs"
    os.environ.setdefault("WANAMAKER_ROOT", str(root))
    if not argv and entry == "train":
        from wanamaker.runtime.menu import print_menu

        print_menu(config_dir)
        return 0
    if not argv or "--help" in argv or "-h" in argv:
        from wanamaker.runtime.menu import print_help

        print_help(config_dir)
        return 0
    _launch(entry, argv, config_dir)
    return 0


def _launch(entry: str, argv: list[str], config_dir: Path) -> None:
    import hydra
    from hydra._internal.utils import get_args_parser

    from wanamaker.runtime import run_id, schema

    flags = get_args_parser().parse_intermixed_args(argv)  # flags may stand between options
    run_id.claim()
    schema.register()
    arguments = list(flags.overrides)
    if entry == "evaluate":
        from wanamaker.runtime.recipe import register_recipe

        arguments = register_recipe(arguments)
    shows_only = flags.cfg or flags.info or flags.hydra_help or flags.shell_completion
    checked, devices = _preflight(
        entry, arguments, config_dir, bool(flags.multirun), flags.config_dir, bool(shows_only)
    )
    others = [argument for argument in argv if argument not in flags.overrides]
    if in_rank() and os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        checked += ["hydra.output_subdir=null", "hydra/job_logging=none"]  # one writer per run
    sys.argv[1:] = others + checked
    # Our own main tells errors from mistakes; Hydra would print both alike.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    def task(config: "DictConfig") -> float | None:
        return _task(entry, config, devices)

    hydra.main(version_base="1.3", config_path=str(config_dir), config_name=entry)(task)()


def in_rank() -> bool:
    """Whether somebody else, torchrun or srun, has already started the ranks and this process is one of them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return True
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ


def _preflight(
    entry: str, arguments: list[str], config_dir: Path, multirun: bool, extra_dir: str | None, shows_only: bool
) -> tuple[list[str], int]:
    """Compose and check everything that can be checked before Hydra creates a folder.

    Returns:
        The mended arguments, and the number of ranks on this machine.
    """
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import open_dict, read_write

    from wanamaker.runtime import checks, overrides

    searchpath = [f"hydra.searchpath=[file://{Path(extra_dir).resolve()}]"] if extra_dir else []
    keys = [argument.split("=")[0].lstrip("+") for argument in arguments]
    if entry == "train" and "experiment" not in keys:
        meant = difflib.get_close_matches("experiment", keys, n=1, cutoff=0.6)
        hint = f"'{meant[0]}' is no option. Did you mean 'experiment'?" if meant else "Choose one: experiment=NAME."
        raise UserError(f"No experiment is chosen. {hint} `python train.py` alone lists them.")
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        checked, config = overrides.check(entry, [*arguments, *searchpath], multirun, checks.arguments_of)
    checked = checked[: len(arguments)]
    if shows_only:
        return checked, 1
    multirun = multirun or config.hydra.mode == RunMode.MULTIRUN  # a sweep file may say so instead of -m
    if multirun and in_rank():
        raise UserError(
            "-m cannot run under torchrun or srun: every rank would choose its own trials. "
            "Start the sweep with plain python; each trial gets its own group of ranks (trainer.devices=N)."
        )
    key = "sweep" if multirun else "run"
    # What ${hydra:...} would be in the run itself, so that every interpolation can be checked now.
    with read_write(config.hydra.job), open_dict(config.hydra.job):
        config.hydra.job.num = config.hydra.job.id = 0
    HydraConfig.instance().set_config(config)
    output_dir = Path(config.hydra[key].dir).absolute()
    with read_write(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(output_dir)
    HydraConfig.instance().set_config(config)
    with read_write(config), open_dict(config):
        del config["hydra"]
    try:
        checks.check_values(config, entry)
        checks.check_one_folder(config, output_dir, f"hydra.{key}.dir")
        checks.check_output(output_dir)
        devices = check_run(config, output_dir)
    finally:
        HydraConfig.instance().cfg = None
    return checked, devices


def check_run(config: "DictConfig", output_dir: Path) -> int:
    """All checks of one composed run; returns the number of ranks on this machine."""
    from wanamaker.nn.pretrained import without_pretrained_weights
    from wanamaker.runtime import build, checkpoint, checks, run

    checks.check_targets(config)
    checks.check_sets(config)
    checks.check_types(config)
    checks.check_trainer(config)
    checks.check_workers(config)
    devices = _devices_of_launcher(config) if in_rank() else checks.check_devices(config)
    nodes = int(config.trainer.get("num_nodes", 1))
    if nodes > 1 and not in_rank():
        raise UserError(
            f"trainer.num_nodes={nodes}: one command cannot start other machines. Run it on each of them under "
            'torchrun or srun (README, "Clusters"), or use trainer.num_nodes=1.'
        )
    checks.check_batch(config, devices * nodes)
    build.rehearse(config, alone=not in_rank())
    if config.get("decision") is not None:
        if "predict" not in config.stages:
            raise UserError(f"A decision needs predictions: stages={list(config.stages)} lacks predict.")
        decision = build.build_decision(config)
    data = build.build_data(config)
    if hasattr(data, "preflight"):
        data.preflight(list(config.stages))
    resume = run.resume_path(config, output_dir)
    # Building the model here tells of a wrong option or a missing file of weights before anything is written, and
    # fetches weights once, not once a rank.
    with nullcontext() if resume is None else without_pretrained_weights():
        model = build.build_model(config)
    if resume is None and hasattr(model, "preflight"):  # mistakes that only data and model together show
        model.preflight(data, list(config.stages))
    if config.get("decision") is not None:
        build.check_decision(decision, model, str(config.experiment))
    if resume is not None:
        checkpoint.check_resume(resume, config, model)
        if hasattr(model, "check_data"):
            model.check_data(data)
        if config.get("decision") is not None:
            build.check_question(decision, model)
    return devices


def _devices_of_launcher(config: "DictConfig") -> int:
    """torchrun and srun decide how many ranks there are; the recipe follows."""
    local = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or os.environ["SLURM_NTASKS"]
    world = os.environ.get("WORLD_SIZE") or os.environ["SLURM_NTASKS"]
    asked = (config.trainer.get("devices", 1), config.trainer.get("num_nodes", 1))
    there = (int(local), int(world) // int(local))
    if asked not in ((1, 1), there) and asked[0] != "auto":
        raise UserError(
            f"trainer.devices={asked[0]} trainer.num_nodes={asked[1]}, but the launcher started {there[0]} ranks on "
            f"each of {there[1]} nodes. Leave both options out, or make them agree."
        )
    config.trainer.devices, config.trainer.num_nodes = there
    return there[0]


def _task(entry: str, config: "DictConfig", devices: int) -> float | None:
    """One composed run: in this process when it is a rank or the only one, otherwise as a group of processes.

    Args:
        entry: "train" or "evaluate".
        config: The composed configuration; checked already unless it is a trial of a sweep.
        devices: Ranks on this machine, as checked.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from wanamaker.runtime import run
    from wanamaker.runtime.jobs import prepare
    from wanamaker.runtime.processes import RankFailed, Supervisor

    hydra_config = HydraConfig.get()
    alone = hydra_config.mode != RunMode.MULTIRUN
    try:
        if in_rank():
            _devices_of_launcher(config)
            return run.ENTRIES[entry](config)
        if not alone:
            devices = check_run(config, Path(hydra_config.runtime.output_dir))
        elif devices == 1:
            return run.ENTRIES[entry](config)
        supervisor = Supervisor()
        supervisor.handle_signals()
        return supervisor.run(prepare(entry, config, devices))
    except (UserError, RankFailed) as error:
        if not alone:
            raise  # the sweeper decides what a failed trial means
        # Past Hydra, which would print a header of its own before the message.
        sys.exit(_report(error, status=2 if isinstance(error, UserError) else 1))
