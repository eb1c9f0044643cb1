"""Learning rates at named steps."""

import math
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from wanamaker.nn.schedules import make_schedule, warmup_cosine, warmup_multistep


def rates(make, steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make(optimizer, **options)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_rises_linearly_and_falls_to_the_final_factor():
    seen = rates(warmup_cosine, 111, total_steps=110, warmup_steps=10, warmup_start=0.1, final_factor=0.05)
    assert seen[0] == pytest.approx(0.2)
    assert seen[5] == pytest.approx(2 * 0.55)
    assert seen[10] == pytest.approx(2.0)
    assert seen[60] == pytest.approx(2 * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi / 2))))
    assert seen[110] == pytest.approx(0.1)


def test_multistep_falls_at_fractions_of_the_run():
    seen = rates(warmup_multistep, 100, total_steps=100, warmup_steps=4, warmup_start=0.5, milestones=[0.6, 0.9])
    assert seen[:5] == pytest.approx([1.0, 1.25, 1.5, 1.75, 2.0])
    assert (seen[59], seen[60], seen[89], seen[90]) == pytest.approx((2.0, 0.2, 0.2, 0.02))


def test_warmup_of_a_short_run_is_cut_to_its_half():
    assert rates(warmup_cosine, 5, total_steps=4, warmup_steps=1000)[2] == pytest.approx(2.0)


def test_no_warmup_starts_at_the_full_rate():
    assert rates(warmup_multistep, 1, total_steps=10)[0] == 2.0
    assert rates(warmup_cosine, 1, total_steps=1)[0] == 2.0


def test_state_survives_a_weights_only_checkpoint(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=10, warmup_steps=2)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    torch.save(schedule.state_dict(), tmp_path / "s.pt")
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    resumed = warmup_cosine(other, total_steps=10, warmup_steps=2)
    resumed.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    other.step()
    optimizer.step()
    resumed.step()
    schedule.step()
    assert resumed.get_last_lr() == schedule.get_last_lr()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (warmup_cosine, {"total_steps": 0}, "total_steps=0"),
        (warmup_cosine, {"total_steps": 9, "warmup_steps": -1}, "warmup_steps=-1"),
        (warmup_cosine, {"total_steps": 9, "warmup_start": 0.0}, "warmup_start=0.0"),
        (warmup_cosine, {"total_steps": 9, "final_factor": 1.5}, "final_factor=1.5"),
        (warmup_multistep, {"total_steps": 9, "milestones": [0.9, 0.6]}, "milestones"),
        (warmup_multistep, {"total_steps": 9, "milestones": [16, 22]}, "fractions"),
        (warmup_multistep, {"total_steps": 9, "gamma": 0.0}, "gamma=0.0"),
    ],
)
def test_values_out_of_range_are_named(make, options, message):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    with pytest.raises(ValueError, match=message):
        make(optimizer, **options)


def test_schedules_of_torch_are_told_the_steps_they_ask_for() -> None:
    def seen_by(factory, steps: int = 6) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make_schedule(factory, optimizer, steps)
        seen = []
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return seen

    assert seen_by(partial(StepLR, step_size=2, gamma=0.5)) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert max(seen_by(partial(OneCycleLR, max_lr=3.0, pct_start=0.5))) == pytest.approx(3.0, rel=0.1)
    assert seen_by(partial(warmup_cosine, final_factor=1.0)) == [1.0] * 6
    with pytest.raises(ValueError, match="waits for a metric"):
        seen_by(partial(ReduceLROnPlateau, patience=1))
