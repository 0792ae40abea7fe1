"""Going on with a sweep, in one process: after Ctrl-C, with a damaged checkpoint, with more trials, and when not to."""

from __future__ import annotations

import _thread
import io
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import recorded
from engine import toy_spec
from recorded import record
from sweeps import StorageError, Sweep, SweepSpec, TrackingError, UsageError
from sweeps.history import History
from sweeps.journal import Journal, read
from sweeps.resume import accepted, extended
from sweeps.spec import Budget, Resources

PHASES = [
    {"kind": "explore", "trials": 6, "epochs": 4, "reduction_factor": None},
    {"kind": "confirm", "top": 1, "seeds": 2},
]


def interrupted(storage: Path, **fields: object) -> Sweep:
    """A toy sweep that Ctrl-C ended in the middle of its first phase."""
    space = {"value": {"float": [0.0, 1.0]}, "seconds": 0.3}
    sweep = Sweep(toy_spec(storage, **{"space": space, "phases": PHASES, **fields}))

    def interrupt() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            reports = sum(path.read_bytes().count(b'"kind":"report"') for path in storage.glob("*/journal/*.jsonl"))
            if reports >= 6:
                _thread.interrupt_main()
                return
            time.sleep(0.02)

    threading.Thread(target=interrupt, daemon=True).start()
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        sweep.run(out=out)
    assert f"Go on   sweeps resume {sweep.folder}" in out.getvalue()
    assert sweep.history.status == "INTERRUPTED"
    return sweep


@pytest.mark.slow
def test_a_sweep_goes_on_from_its_checkpoints_and_grows(ray_session: object, tmp_path: Path) -> None:
    before = interrupted(tmp_path, budget={"hours": 1})
    done = {t.trial: t for t in before.history.trials.values() if t.status == "FINISHED"}
    cut = [t for t in before.history.trials.values() if t.status == "INTERRUPTED" and t.checkpoint]
    assert cut, "some trial was at work"
    torn = cut[0]
    (before.folder / str(torn.checkpoint) / "state.pt").write_bytes(b"torn")
    stray = before.folder / "checkpoints" / torn.trial / "99"
    shutil.copytree(before.folder / str(torn.checkpoint), stray)
    more = before.spec.model_copy(update={"budget": before.spec.budget.model_copy(update={"hours": 2.0})})
    sweep = Sweep.open(before.folder).resume(spec=more, out=io.StringIO())
    history = sweep.history
    assert history.status == "FINISHED"
    assert sweep.spec.budget.hours == 2
    assert {p: len(history.of_phase(p)) for p in history.phases} == {"explore": 6, "confirm": 4}
    assert all((t.status, [e.epoch for e in t.epochs]) == ("FINISHED", [1, 2, 3, 4]) for t in history.trials.values())
    for name, trial in done.items():
        assert history.trials[name].epochs == trial.epochs, "what had ended was not touched"
    (failure,) = history.trials[torn.trial].failures
    assert (failure["error"], failure["failure_kind"]) == ("CheckpointError", "lost")
    assert "it begins afresh" in failure["message"]
    assert not stray.exists()
    told = [f["finding"] for f in history.findings if f.get("phase") != "explore"]  # which says what its trials show
    assert told == ["seeds_alike"], "epochs that were trained again are equal"
    time_spent = history.end["time"]
    assert time_spent["wall_s"] == pytest.approx(sum(d.last - d.began for d in history.drivers), abs=1)
    assert len(history.drivers) == 2

    with pytest.raises(UsageError, match="has finished"):
        sweep.resume()
    verdict = sweep.verdict
    grown = Sweep.open(sweep.folder).extend(3, out=io.StringIO())
    explore = grown.history.of_phase("explore")
    assert len(explore) == 9
    assert len({t.config["value"] for t in explore}) == 9, "no config twice"
    assert grown.history.trials.keys() >= history.trials.keys()
    assert grown.verdict is not None
    assert verdict is not None
    best = min(explore, key=lambda t: t.config["value"])
    assert {arm.arm for arm in grown.verdict.arms} == {"baseline", best.trial}
    new = best.trial not in {arm.arm for arm in verdict.arms}
    assert len([line for line in read(grown.folder) if line["kind"] == "verdict"]) == 1 + new, (
        "it stands if nothing beat it"
    )
    confirmed = Counter((t.role, t.fidelity["seed"]) for t in grown.history.of_phase("confirm"))
    assert set(confirmed.values()) == {1}, "an arm that has run is not run again"
    assert Sweep.open(grown.folder).table().equals(grown.table())


@pytest.mark.slow
def test_an_extended_sweep_reads_the_test_split_of_new_arms_only(ray_session: object, tmp_path: Path) -> None:
    spec = toy_spec(
        tmp_path, "toys:Tested", space={"lr": {"log": [1e-3, 1e-1]}, "batch_size": 4}, keep_checkpoints=1,
        phases=[{"kind": "explore", "trials": 4, "epochs": 3}, {"kind": "confirm", "top": 1, "seeds": 2}],
    )  # fmt: skip
    first = Sweep(spec).run(out=io.StringIO()).history.verdict
    folder = next(tmp_path.glob("sweep-*"), None) or next(tmp_path.glob("toy-*"))
    grown = Sweep.open(folder).extend(8, out=io.StringIO()).history
    assert first is not None
    assert grown.verdict is not None
    assert grown.verdict["test"]["baseline"] == first["test"]["baseline"], "the same trials, read once"
    assert all(numbers for numbers in grown.verdict["test"].values())
    assert [f for f in grown.findings if f["finding"] == "no_test"] == []
    read_arms = [arm for line in grown.tests for arm in line["arms"]]
    assert len(read_arms) == len(set(read_arms))


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A recorded sweep whose driver was killed."""
    return record(tmp_path / "recorded", finished=False)


def test_a_second_driver_is_kept_out(unfinished: Path) -> None:
    driver = Journal(unfinished)
    before = sorted(unfinished.rglob("*"))
    with pytest.raises(StorageError, match=r"recorded is at work: process \d+ on .* drives it"):
        Sweep.open(unfinished).resume(out=io.StringIO())
    assert sorted(unfinished.rglob("*")) == before
    driver.close()


def test_what_its_results_rest_on_may_not_change(unfinished: Path) -> None:
    sweep = Sweep.open(unfinished)
    other = SweepSpec.model_validate({**sweep.spec.document(), "metric": "val/loss", "mode": "min", "seed": 3})
    with pytest.raises(UsageError, match="metric, mode, seed changed since the sweep began; only budget, "):
        sweep.resume(spec=other)


def test_a_spec_of_before_an_extension_is_accepted_and_the_extension_kept() -> None:
    before = recorded.SPEC
    longer = extended(before, 5)
    again = accepted(longer, before.model_copy(update={"budget": Budget(hours=3)}))
    assert again.phases == longer.phases
    assert again.budget.hours == 3
    with pytest.raises(UsageError, match=r"phases changed since"):
        accepted(longer, before.model_copy(update={"phases": before.phases[:-1]}))
    with pytest.raises(UsageError, match=r"resources\.workers changed since"):
        accepted(before, before.model_copy(update={"resources": Resources(workers=2)}))


def test_an_extension_that_cannot_begin_changes_nothing(tmp_path: Path) -> None:
    sweep = Sweep.open(record(tmp_path / "whole"))
    before = sweep.spec
    sweep.spec = before.model_copy(update={"tracking": "http://127.0.0.1:1"})
    given = sweep.spec
    with pytest.raises(TrackingError):
        sweep.extend(4, out=io.StringIO())
    assert sweep.spec is given


def test_extend_is_for_finished_searches(unfinished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has not finished. `sweeps resume` it first"):
        Sweep.open(unfinished).extend(3)
    whole = record(tmp_path / "whole")
    with pytest.raises(UsageError, match="trials: 0 is below 1"):
        Sweep.open(whole).extend(0)


def test_a_trainable_of_a_script_cannot_be_resumed(unfinished: Path) -> None:
    (journal,) = (unfinished / "journal").glob("*.jsonl")
    journal.write_text(journal.read_text().replace("trainables.examples.digits:Digits", "__main__:Digits"))
    with pytest.raises(UsageError, match=r"__main__:Digits was defined in a script. Put it in a module"):
        Sweep.open(unfinished).resume()


def test_a_line_that_a_crash_cut_is_left_out(unfinished: Path) -> None:
    (journal,) = (unfinished / "journal").glob("*.jsonl")
    lines = read(unfinished)
    with open(journal, "ab") as file:
        file.write(b'{"kind":"report","at":17')
    assert read(unfinished) == lines
    pen = Journal(unfinished)
    after = pen.append("finding", finding="x", severity="info", message="y")
    pen.close()
    assert read(unfinished) == [*lines, after]
    assert History.open(unfinished).findings[-1]["finding"] == "x"
