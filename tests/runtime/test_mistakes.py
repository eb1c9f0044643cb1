"""Every mistake gets one message that names the value, the place and the remedy, and exit status 2."""

import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, TOY, Run, clean_environment
from wanamaker.runtime.launch import main

MISTAKES = {
    "misspelt option": ("trainer.max_epocs=3", "'trainer.max_epocs' is no option", "Did you mean 'max_epochs'?"),
    "misspelt section": ("traner.max_epochs=3", "the top level has no 'traner'", "Did you mean 'trainer'?"),
    "misspelt key": ("sed=3", "'sed' is no option", "Did you mean 'seed'?"),
    "misspelt argument of a model": ("model.net.in_feature=3", "(torch.nn.Linear)", "Did you mean 'in_features'?"),
    "unknown choice": ("logger=tensorbord", "There is no logger 'tensorbord'.", "Did you mean 'tensorboard'?"),
    "unknown debug mode": ("debug=fast", "There is no debug 'fast'.", "fdr"),
    "wrong type": ("seed=abc", "seed", "'abc'"),
    "several values without -m": ("seed=1,2", "names several values", "add -m"),
    "not an option": ("a b", "Cannot read the option", "key=value"),
    "unknown stage": ("stages=[fit,tset]", "no stage 'tset'", "Did you mean 'test'?"),
    "unknown mode": ("monitor.mode=minimum", "monitor.mode='minimum'", "'min' or 'max'"),
    "too many devices": ("trainer.devices=4096", "trainer.devices=4096", "Use trainer.devices="),
    "half a device": ("trainer.devices=1.5", "trainer.devices=1.5", "whole number"),
    "unknown accelerator": ("trainer.accelerator=gpuu", "trainer.accelerator=gpuu", "Did you mean 'gpu'?"),
    "missing checkpoint": ("ckpt_path=nowhere/last.ckpt", "nowhere/last.ckpt", "There is no checkpoint"),
    "missing data": ("data.missing=rows.csv", "data.missing", "rows.csv is not on disk"),
    "untrusted target": ("model.net._target_=os.system", "os.system", "WANAMAKER_TRUSTED"),
    "unimportable target": ("model.net._target_=torch.nn.Liner", "torch.nn.Liner", "cannot be imported"),
    "options of no callback": ("++callbacks.averaging.decay=0.9", "callbacks.averaging has options (decay)", "=null"),
    "a folder for part of a run": ("paths.output_dir=elsewhere", "a run has one folder", "hydra.run.dir=elsewhere"),
    "a folder that Hydra names": ("hydra.runtime.output_dir=elsewhere", "hydra.runtime", "paths.log_dir"),
    "no folder": ("paths.log_dir=null", "paths.log_dir is empty", "paths.log_dir=FOLDER"),
    "no choice": ("logger=null", "'logger' is chosen by the name of a file", "Did you mean 'none'?"),
    "unknown precision": ("trainer.precision=8-mixed", "trainer.precision=8-mixed", "bf16-mixed"),
    "impossible epochs": ("trainer.max_epochs=-3", "trainer: `max_epochs`", "-3"),
    "no accumulation": ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0", "at least 1"),
    "negative clipping": ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1", "at least 0"),
    "negative rate": ("model.optimizer.lr=-1", "model.optimizer: Invalid learning rate: -1", ""),
    "rate that is no number": ("model.optimizer.momentum=fast", "model.optimizer.momentum=fast", "give a number"),
    "an army of workers": ("data.num_workers=5000", "data.num_workers=5000", "processors"),
    "negative seed": ("seed=-1", "seed=-1", "from 0 to 4294967295"),
    "word for a switch": ("trainer.inference_mode=no", "trainer.inference_mode=no", "give true or false"),
    "number for a word": ("trainer.accelerator=1", "trainer.accelerator=1", "give a word"),
    "no node": ("trainer.num_nodes=0", "trainer.num_nodes=0", "at least 1"),
    "rows dealt twice": ("trainer.use_distributed_sampler=true", "use_distributed_sampler=true", "Leave it out"),
    "callback refuses": ("callbacks.best.mode=up", "callbacks.best: `mode` can be min, max but got up", ""),
    "another machine": ("trainer.num_nodes=2", "trainer.num_nodes=2", "torchrun"),
}


@pytest.fixture
def main_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Call the entry point in this process; returns its status and what it wrote to stderr."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANAMAKER_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("WANAMAKER_RUN_ID", "mistake")
    monkeypatch.setenv("WANAMAKER_ROOT", str(ROOT))
    monkeypatch.setenv("WANAMAKER_TRUSTED", "wanamaker_toy")
    monkeypatch.syspath_prepend(str(TOY))

    def call(entry: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(ROOT / f"{entry}.py"), *arguments])
        status = main(entry)
        return status, capsys.readouterr().err

    return call


@pytest.mark.parametrize(("option", "place", "remedy"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_named_with_its_remedy(main_with, tmp_path: Path, option: str, place: str, remedy: str) -> None:
    status, said = main_with("train", "--config-dir", str(TOY / "configs"), "experiment=toy", option)
    assert status == 2
    assert place in said
    assert remedy in said
    assert "Traceback" not in said
    assert not (tmp_path / "logs").exists(), "nothing may be half-written"


def test_value_that_is_missing_inside_a_mapping(main_with, tmp_path: Path) -> None:
    status, said = main_with("train", "experiment=x_learner_table", "data.path=any.csv", "data.roles.treatment=arm")
    assert (status, "'data.roles.control' must be given: data.roles.control=VALUE." in said) == (2, True), said
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("target", "options", "told"),
    [
        ("wanamaker.nn.schedules.warmup_cosine", ["model.scheduler.warmup_steps=-3"], "warmup_steps=-3: must be 0"),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", ["~model.scheduler.warmup_steps"], "waits for a metric"),
        ("torch.optim.lr_scheduler.StepLR", ["~model.scheduler.warmup_steps"], "from no options"),
        ("torch.optim.lr_scheduler.StepLR", ["model.scheduler.step_size=3"], "~model.scheduler.warmup_steps"),
    ],
)
def test_schedule_that_cannot_be_built(main_with, tmp_path: Path, target: str, options: list[str], told: str) -> None:
    status, said = main_with("train", "experiment=faster_rcnn_tiny", f"model.scheduler._target_={target}", *options)
    assert (status, told in said) == (2, True), said
    assert not (tmp_path / "logs").exists()


def test_options_go_with_the_target_of_the_command_line(main_with) -> None:
    """The recipe's SGD has no `betas`, and Adam has."""
    adam = ("model.optimizer._target_=torch.optim.Adam", "model.optimizer.betas=[0.8,0.9]")
    arguments = ("--config-dir", str(TOY / "configs"), "experiment=toy", "trainer.max_epochs=1", "logger=none")
    status, said = main_with("train", *arguments, "stages=[fit]", *adam)
    assert status == 0, said
    assert "has no 'betas'" in main_with("train", *arguments, *adam[1:])[1]


def test_metric_that_nobody_measures(train: Run) -> None:
    done = train("monitor.metric=val/los", "logger=none")
    assert done.status == 2
    assert "does not measure 'val/los'" in done.err
    assert "Did you mean 'val/loss'?" in done.err
    assert "Traceback" not in done.said


def test_batch_that_ranks_cannot_share(main_with) -> None:
    status, said = main_with(
        "train", "--config-dir", str(TOY / "configs"), "experiment=toy", "data.batch_size=7", "trainer.devices=2"
    )
    assert status == 2
    assert "data.batch_size=7" in said
    assert "6 or 8" in said


def test_experiment_that_does_not_exist(main_with) -> None:
    status, said = main_with("train", "experiment=faster_rcnn_coko")
    assert status == 2
    assert "There is no experiment 'faster_rcnn_coko'. Did you mean 'faster_rcnn_coco'?" in said


def test_forgotten_and_misspelt_experiment(main_with) -> None:
    assert "experiment=NAME" in main_with("train", "seed=1")[1]
    assert "Did you mean 'experiment'?" in main_with("train", "experimnt=toy")[1]


def test_output_folder_that_cannot_be_written(main_with, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    status, said = main_with(
        "train", "--config-dir", str(TOY / "configs"), "experiment=toy", f"paths.log_dir={blocked}/logs"
    )
    assert status == 2
    assert str(blocked) in said
    assert "paths.log_dir" in said


def test_evaluate_needs_a_checkpoint_of_ours(main_with, tmp_path: Path) -> None:
    import torch

    status, said = main_with("evaluate", "decision=none")
    assert (status, "ckpt_path=FILE" in said) == (2, True)
    status, said = main_with("evaluate", f"ckpt_path={tmp_path}/a.ckpt", "ckpt_path=null")
    assert (status, "ckpt_path=FILE" in said) == (2, True), "the last of two counts"
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    status, said = main_with("evaluate", f"ckpt_path={foreign}")
    assert status == 2
    assert "has no recipe in it" in said
    truncated = tmp_path / "cut.ckpt"
    truncated.write_bytes(foreign.read_bytes()[:200])
    status, said = main_with("evaluate", f"ckpt_path={truncated}")
    assert status == 2
    assert "cut.ckpt is truncated or damaged" in said
    assert "foreign.ckpt" in said, "the readable neighbour is offered"


def test_option_of_a_target_needs_no_plus(main_with) -> None:
    """`trainer.gradient_clip_val` is in no file; Lightning's signature has it. `--cfg` composes and stops."""
    from wanamaker.runtime.checks import arguments_of

    accepted = arguments_of("lightning.pytorch.Trainer")
    assert accepted is not None
    assert "gradient_clip_val" in accepted


@pytest.mark.parametrize("key", ["trainer.default_root_dir", "hydra.job_logging.handlers.file.filename"])
def test_option_whose_default_only_a_run_knows(main_with, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Its default interpolates the run's folder, which nobody has named while the options are checked."""
    from hydra.core.hydra_config import HydraConfig

    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # an earlier run in this process has left its own
    arguments = ("--config-dir", str(TOY / "configs"), "experiment=toy", f"{key}=elsewhere", "--cfg", "all")
    assert main_with("train", *arguments)[0] == 0


def test_environment_fixture_is_clean() -> None:
    assert not any(name.startswith("SLURM_") for name in clean_environment())


def test_testing_what_was_never_trained(main_with) -> None:
    status, said = main_with("train", "--config-dir", str(TOY / "configs"), "experiment=toy", "stages=[test]")
    assert status == 2
    assert "needs a trained model" in said
    assert "ckpt_path=FILE" in said


def test_checkpoint_of_another_model(main_with, tmp_path: Path) -> None:
    import torch

    common = ("--config-dir", str(TOY / "configs"), "experiment=toy")
    assert main_with("train", *common, "run_id=first", "trainer.max_epochs=1", "stages=[fit]", "logger=none")[0] == 0
    best = tmp_path / "logs" / "toy" / "runs" / "first" / "checkpoints" / "best.ckpt"
    status, said = main_with("train", *common, f"ckpt_path={best}", "model.net.out_features=2", "run_id=second")
    assert status == 2
    assert "holds another model: model.net.out_features is 2 here and 1 there" in said
    assert not (tmp_path / "logs" / "toy" / "runs" / "second").exists()
    status, said = main_with("evaluate", f"ckpt_path={best}", "model.net.out_features=2", "stages=[test]")
    assert (status, "holds another model" in said) == (2, True)
    # Options that change no tensor may change.
    resumed = main_with("train", *common, f"ckpt_path={best}", "model.optimizer.lr=0.5", "run_id=third", "logger=none")
    assert resumed[0] == 0, resumed[1]
    assert "state_dict" in torch.load(best, weights_only=True)
