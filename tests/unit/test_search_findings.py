"""What a phase shows as a whole: by its trials' curves and configs, and what follows for the next one's epochs."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.history import History, Record
from sweeps.insight.search import Lengthened, by_luck, jitter, judge, lengthened, with_lengths
from sweeps.journal import FORMAT, now, read
from sweeps.phases.advice import affords, close
from sweeps.spec import SweepSpec

SPACE = {"lr": {"log": [1e-4, 1e-1]}, "width": {"int": [8, 64]}, "batch_size": {"powers_of_two": [16, 32]}}
EXPLORE = {"kind": "explore", "epochs": 20, "data_fraction": 1.0}
CONFIRM = {"kind": "confirm"}


def spec(*phases: dict, **fields: Any) -> SweepSpec:
    """A spec with these phases."""
    return SweepSpec.model_validate({"trainable": "a:b", "space": SPACE, **fields, "phases": list(phases)})


def swept(made: SweepSpec, curves: list[list[float]], configs: list[dict] | None = None, **metrics: list) -> History:
    """The history of the spec's first phase, a trial a validation curve; `metrics` are the values of another one."""
    history = History(Path("nowhere"))
    history.extend({"at": 0.0, **line} for line in told(made, curves, configs, **metrics))
    return history


def told(made: SweepSpec, curves: list[list[float]], configs: list[dict] | None = None, **metrics: list) -> list[dict]:
    """The journal's lines of it."""
    lines: list[dict] = []

    def tell(kind: str, **fields: Any) -> None:
        lines.append({"kind": kind, **fields})

    phase = made.phases[0].kind
    tell("sweep", format=FORMAT, spec=made.document(), began=0, ready=0, defaults={})
    space = made.space.model_dump(mode="json", by_alias=True)
    tell("phase", phase=phase, phase_kind=phase, space=space, changes=[], comparison=None, trials=len(curves))
    for number, curve in enumerate(curves):
        name = f"{phase}-{number:03d}"
        config = configs[number] if configs else {"lr": 10 ** (-2 - number / 100), "width": 30 + number % 7}
        fidelity = {"epochs": 20, "data_fraction": 1.0, "seed": 0}
        tell("trial", phase=phase, trial=name, attempt=1, role="sobol", config=config, fidelity=fidelity)
        for epoch, value in enumerate(curve, 1):
            own = {"val/loss": value, "train/loss": 0.9 * value}
            if values := metrics.get("accuracy"):
                own["val/accuracy"] = values[number][epoch - 1] if isinstance(values[number], list) else values[number]
            tell("report", trial=name, attempt=1, epoch=epoch, metrics=own, seconds=1.0, checkpoint=None, slot=1)
        tell("end", trial=name, status="FINISHED", reason="", seconds=0.0, whole=len(curve) == 20)
    return lines


def settled(level: float) -> list[float]:
    """A curve that falls at once and stays."""
    return [level + 2.3 * 0.3**epoch for epoch in range(20)]


def found(history: History, made: SweepSpec) -> dict[str, Any]:
    """The findings of the first phase by id."""
    return {one.finding: one for one in judge(history, made, made.phases[0])}


SETTLED = [settled(0.05 + 0.01 * number) for number in range(10)]


def test_a_phase_in_which_nothing_is_odd_has_no_finding():
    assert found(swept(spec(EXPLORE, CONFIRM), SETTLED), spec(EXPLORE, CONFIRM)) == {}


def test_few_trials_say_nothing():
    wild = [{"lr": 1e-1, "width": 64} for _ in range(7)]
    assert found(swept(spec(EXPLORE), SETTLED[:7], wild), spec(EXPLORE)) == {}
    assert judge(swept(spec(EXPLORE), []), spec(EXPLORE), spec(EXPLORE).phases[0]) == []


@pytest.mark.parametrize(
    ("lr", "phases", "severity", "said"),
    [
        (0.099, (EXPLORE,), "warn", "3 of the best 5 have lr at the high edge of 0.0001 … 0.1 log: widen it there"),
        (1.01e-4, (EXPLORE,), "warn", "at the low edge"),
        (0.099, (EXPLORE, {"kind": "refine"}), "info", "refine widens that side"),
    ],
)
def test_the_best_lie_at_an_edge(lr, phases, severity, said):
    configs = [
        {"lr": lr if n < 3 else 1e-3 * (1 + n / 10), "width": 30, "batch_size": 16 + 16 * (n % 2)} for n in range(10)
    ]
    made = spec(*phases)
    finding = found(swept(made, SETTLED, configs), made)["edge_of_space"]
    assert (finding.severity, finding.evidence["parameter"]) == (severity, "lr")
    assert said in finding.message


@pytest.mark.parametrize(("times", "told"), [(2, False), (3, False), (4, True)])
def test_of_few_values_many_lie_at_an_edge_by_luck(times, told):
    space = {**SPACE, "batch_size": {"powers_of_two": [16, 64]}}
    made = spec(EXPLORE, space=space)
    configs = [{"lr": 0.01, "width": 30, "batch_size": 64 if n < times else 32} for n in range(10)]
    assert ("edge_of_space" in found(swept(made, SETTLED, configs), made)) == told
    assert by_luck(4, 5, 1 / 3) == pytest.approx(11 / 243)


def test_a_narrowed_edge_is_none_of_the_spec_s():
    made = spec(EXPLORE)
    history = swept(made, SETTLED, [{"lr": 0.05, "width": 30} for _ in range(10)])
    narrowed = made.space.model_copy()
    history.phases["explore"].space = type(narrowed).model_validate({**SPACE, "lr": {"log": [1e-2, 0.05]}})
    finding = found(history, made)["edge_of_space"]
    assert (finding.severity, "to which it was narrowed" in finding.message) == ("info", True)


def test_what_most_of_the_good_trials_suffer_from():
    rising = [0.3 + 2.1 * 0.6**epoch + max(0, epoch - 4) * 0.05 for epoch in range(20)]
    falling = [0.2 + 2.1 * 0.6**epoch for epoch in range(20)]
    made = spec(EXPLORE, CONFIRM)
    history = swept(made, [rising] * 10)
    for trial in history.trials.values():
        for epoch, value in zip(trial.epochs, falling, strict=True):
            epoch.metrics["train/loss"] = value
    finding = found(history, made)["overfit"]
    assert finding.message.startswith("3 of the best 3 trials (explore-000, explore-001, explore-002): the validation")
    assert finding.evidence == {"trials": ["explore-000", "explore-001", "explore-002"], "of": 3}


def test_metric_and_loss_disagree():
    made = spec(EXPLORE, metric="val/accuracy", mode="max")
    agreeing = [0.9 - 0.01 * n for n in range(10)]
    assert "metric_and_loss_disagree" not in found(swept(made, SETTLED, accuracy=agreeing), made)
    finding = found(swept(made, SETTLED, accuracy=agreeing[::-1]), made)["metric_and_loss_disagree"]
    assert finding.evidence == {"correlation": pytest.approx(-1.0), "by_loss": "explore-000"}
    assert "the best by val/accuracy is explore-009, by val/loss explore-000" in finding.message
    assert "metric_and_loss_disagree" not in found(swept(made, SETTLED, accuracy=[0.9] * 10), made), "there is no order"


def test_an_order_that_is_noise():
    swinging = [[0.3 + 0.001 * n + 0.02 * (-1) ** epoch for epoch in range(20)] for n in range(10)]
    made = spec(EXPLORE, CONFIRM)
    finding = found(swept(made, swinging), made)["noise_hides_differences"]
    assert finding.severity == "info"
    assert finding.evidence["span"] == pytest.approx(0.004)
    assert finding.evidence["swing"] == pytest.approx(0.02, rel=0.3)
    alone = found(swept(spec(EXPLORE), swinging), spec(EXPLORE))["noise_hides_differences"]
    assert (alone.severity, "add a confirm phase" in alone.message) == ("warn", True)


def test_the_swing_of_a_curve_is_about_its_line():
    assert jitter([1.0, 0.9, 0.8, 0.7, 0.6, 0.5]) == pytest.approx(0.0, abs=1e-12)
    assert jitter([1.0, 0.9]) is None
    assert jitter([math.nan] * 9) is None


def test_too_many_epochs_shorten_the_confirm_phase_that_leaves_them_open():
    rising = [*settled(0.1)[:4], *(0.12 + 0.001 * n for n in range(16))]
    made = spec(EXPLORE, CONFIRM)
    history = swept(made, [rising] * 10)
    assert found(history, made)["too_many_epochs"].evidence["epochs"] == 8, "one and a half times the best, the fifth"
    longer = lengthened(history, made, made.phases[0])
    assert (longer.phase, longer.finding, longer.before, longer.after) == ("confirm", "too_many_epochs", 20, 8)
    given = spec(EXPLORE, {"kind": "confirm", "epochs": 9})
    assert lengthened(history, given, given.phases[0]) is None, "a person's word"
    assert lengthened(history, spec(EXPLORE), spec(EXPLORE).phases[0]) is None
    assert lengthened(swept(made, SETTLED), made, made.phases[0]) is None
    half = spec({**EXPLORE, "data_fraction": 0.5}, CONFIRM)
    assert lengthened(history, half, half.phases[0]) is None, "of half of the data epochs are shorter"
    accuracy = [[0.5 + 0.02 * epoch for epoch in range(20)]] * 10
    by_accuracy = spec(EXPLORE, CONFIRM, metric="val/accuracy", mode="max")
    rises = swept(by_accuracy, [rising] * 10, accuracy=accuracy)
    assert lengthened(rises, by_accuracy, by_accuracy.phases[0]) is None, "what is wanted rises to the end"


def test_too_few_epochs_lengthen_it():
    still_falling = [2.3 * 0.93**epoch for epoch in range(20)]
    made = spec(EXPLORE, CONFIRM)
    longer = lengthened(swept(made, [still_falling] * 10), made, made.phases[0])
    assert (longer.finding, longer.before, longer.after) == ("too_few_epochs", 20, 30)
    after = with_lengths(made, [{"phase": "confirm", "after": 30}])
    assert (after.phases[0].epochs, after.phases[1].epochs) == (20, 30)
    assert with_lengths(made, []) == made


def test_what_a_phase_showed_is_journalled_once_and_the_spec_follows(tmp_path):
    """A driver that goes on with the sweep writes nothing of it again."""
    made = spec(EXPLORE, CONFIRM)
    rising = [*settled(0.1)[:4], *(0.12 + 0.001 * n for n in range(16))]
    record = Record(tmp_path)
    for line in told(made, [[value + 0.01 * number for value in rising] for number in range(10)]):
        record.write(**({**line, "role": "advice"} if line.get("trial") == "explore-009" else line))
    record.write("advice", phase="explore", trial="explore-009", of="explore-001", finding="overfit",
                 changes={"dropout": [0.1, 0.2]}, message="it rose")  # fmt: skip
    record.write("plan", phases=[], seconds_per_epoch=None, basis="", total_s=None, footprint={})
    engine = SimpleNamespace(
        spec=made, record=record, spent=lambda: "", note=lambda text: None, slots=1, footprint={}, deadline=None
    )
    for _ in range(2):
        close(engine, made.phases[0])
        assert engine.spec.phases[1].epochs == 8
        engine.spec = with_lengths(made, record.history.lengths)
    record.close()
    written = [line["kind"] for line in read(tmp_path)]
    assert written.count("advice") == 3, "the advice, what came of it, and the other epochs"
    assert {line["finding"] for line in read(tmp_path) if line["kind"] == "finding"} == {"too_many_epochs"}
    assert record.history.advice["explore-009"]["outcome"]["helped"] is False, "it is equal"


@pytest.mark.parametrize(
    ("budget", "left", "seconds", "fits"),
    [
        ({}, None, 1.0, True),
        ({"hours": 1}, 3600.0, 1.0, True),
        ({"hours": 1}, 200.0, 1.0, False),
        ({"hours": 1}, 3600.0, None, False),
        ({"gpu_hours": 1}, None, 1.0, False),
    ],
)
def test_longer_phases_need_room_in_the_budget(tmp_path, budget, left, seconds, fits):
    """Nine trials of thirty epochs on one slot: 270 seconds."""
    made = spec(EXPLORE, CONFIRM, budget=budget)
    record, notes = Record(tmp_path), []
    record.write("plan", phases=[], seconds_per_epoch=seconds, basis="", total_s=None, footprint={})
    deadline = None if left is None else now() + left
    engine = SimpleNamespace(spec=made, record=record, note=notes.append, slots=1, footprint={}, deadline=deadline)
    assert affords(engine, Lengthened("confirm", "too_few_epochs", "Still improving.", 20, 30)) == fits
    assert bool(notes) != fits
    assert affords(engine, Lengthened("confirm", "too_many_epochs", "", 20, 8)), "shorter ones always have"
    record.close()
