"""The multiples of the peak learning rate, against their formulae written out."""

import math

import pytest
import torch

from trainables.schedules import SCHEDULES, factor


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ("linear", [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("cosine", [1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
        ("step", [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("exponential", [1, 0.4641589, 0.2154435, 0.1, 0.0464159, 0.0215443]),
    ],
)
def test_every_schedule_without_warmup(schedule, values):
    assert [factor(schedule, s, 6) for s in range(6)] == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("schedule", sorted({*SCHEDULES, "plateau"} - {"one_cycle"}))
def test_warmup_rises_evenly_to_the_peak_and_the_decay_follows(schedule):
    values = [factor(schedule, s, 20, warmup_fraction=0.2) for s in range(20)]
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert values[4:] == pytest.approx([factor(schedule, s, 16) for s in range(16)])


@pytest.mark.parametrize(("warmup", "rise"), [(0.0, 30), (0.1, 10)])
def test_one_cycle_is_torchs_up_to_its_last_division(warmup, rise):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=0.9)
    # Torch counts from the first step to the last, ours from a step to where the next would be.
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=101, pct_start=(rise + 1) / 101, final_div_factor=1e9, cycle_momentum=False
    )
    for step in range(100):
        assert factor("one_cycle", step, 100, warmup) == pytest.approx(theirs.get_last_lr()[0], abs=1e-6)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", [*SCHEDULES, "plateau"])
@pytest.mark.parametrize("total", [1, 2, 7, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.99])
def test_every_step_has_a_rate_above_zero_and_the_peak_is_reached(schedule, total, warmup):
    values = [factor(schedule, s, total, warmup) for s in range(total)]
    assert all(0 < v <= 1 and math.isfinite(v) for v in values)
    assert max(values) == 1
