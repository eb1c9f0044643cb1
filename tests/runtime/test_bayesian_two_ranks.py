"""Two Lightning processes fit the guide of one, with all series at once and with a batch that leaves one rank none."""

from pathlib import Path

import pytest
import torch

from tests.conftest import Run

SHORT = ("model.inference.engine=svi", "model.inference.mode_steps=12", "model.inference.svi_steps=12")


def guide_of(run: Run, folder: Path, devices: int, batch: str) -> dict[str, torch.Tensor]:
    name = f"ranks{devices}"
    options = (f"run_id={name}", "trainer=ddp_cpu", f"trainer.devices={devices}", f"data.batch_size={batch}", *SHORT)
    result = run("train.py", "experiment=bayesian_mmm_tiny", *options, WANAMAKER_CACHE_DIR=str(folder / "cache"))
    assert result.status == 0, result.said
    (found,) = (folder / "logs").glob(f"*/*/{name}/checkpoints/last.ckpt")
    checkpoint = torch.load(found, weights_only=False)
    assert checkpoint["global_step"] == 24
    return {key: value for key, value in checkpoint["state_dict"].items() if ".guide." in key}


@pytest.mark.slow
@pytest.mark.parametrize("batch", ["null", "1"])
def test_the_guide_of_two_ranks_is_that_of_one(run: Run, tmp_path: Path, batch: str) -> None:
    one, two = (guide_of(run, tmp_path, devices, batch) for devices in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
    assert float(one["fit_state.guide.shift"].abs().max()) > 1e-3
