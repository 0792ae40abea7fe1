"""What comes with the code, and what people bring: the examples, a module of one's own elsewhere, the Python API."""

from __future__ import annotations

import inspect
import math
import re
import sys
from pathlib import Path

import pytest

from e2e.terminal import BIN, ROOT, Swept, environment, of_kind, run_command, run_sweep, trials_of

pytestmark = pytest.mark.e2e
VERDICT = re.compile(r"^(ADOPT|MORE_SEEDS|KEEP_BASELINE)\b.*val/loss", re.MULTILINE)
MINE = """\
import torch
from torch import nn

from trainables.contract import Data


class Net:
    def data(self, config, fidelity):
        x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
        y = (x[:, 0] * x[:, 1] > 0).long()
        print("the data is made")
        return Data((x[:300], y[:300]), (x[300:], y[300:]))

    def model(self, config, data):
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
"""
SCRIPT = """\
import sys

import torch
from torch import nn

from sweeps import Sweep, SweepSpec
from trainables.contract import Data


class Own:
    def data(self, config, fidelity):
        x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        y = (x.sum(1) > 0).long()
        return Data((x[:150], y[:150]), (x[150:], y[150:]))

    def model(self, config, data):
        return nn.Linear(4, 2)


if __name__ == "__main__":
    space = {"lr": {"log": [1e-3, 1e-1]}}
    phases = [
        {"kind": "explore", "trials": 3, "epochs": 2, "data_fraction": 1.0},
        {"kind": "confirm", "top": 1, "seeds": 2},
    ]
    spec = SweepSpec(trainable=Own, space=space, phases=phases, baseline={"lr": 1e-3}, storage=sys.argv[1])
    sweep = Sweep(spec).run()
    opened = Sweep.open(sweep.folder)
    print("CONFIG", sorted(sweep.best.config))
    print("SHAPE", tuple(sweep.best.load()(torch.zeros(7, 4)).shape))
    print("VERDICT", sweep.verdict.verdict, opened.verdict == sweep.verdict)
    print("ROWS", sweep.table().num_rows, opened.table().equals(sweep.table()))
    print("REPORT", sweep.report(), opened.report() == sweep.report())
    quick = Sweep.quick(Own, space, hours=0.05, phases=phases[:1], name="quick", storage=sys.argv[1]).run()
    print("QUICK", quick.spec.budget.hours, quick.history.status, sorted(quick.best.config), quick.verdict)
"""


def check(swept: Swept, phases: dict[str, int]) -> None:
    """A sweep of an example ended with a verdict, in so many trials a phase, and kept the best one's checkpoint."""
    assert swept.code == 0, swept.out
    lines = swept.journal
    assert {phase: len(trials_of(lines, phase)) for phase in phases} == phases
    (verdict,) = of_kind(lines, "verdict")
    said = VERDICT.search(swept.out)
    assert said
    assert said[1] == verdict["verdict"]
    values = [float(line["metrics"]["val/loss"]) for line in of_kind(lines, "report")]
    assert min(values) < values[0]
    kept = [line["checkpoint"] for line in of_kind(lines, "report") if line["trial"] == verdict["best_trial"]]
    assert (swept.folder / kept[-1]).exists()
    assert (swept.folder / "report.html").exists()


def test_the_example_of_an_own_module(tmp_path: Path) -> None:
    assert len((ROOT / "sweeps/examples/own_module.py").read_text(encoding="utf-8").splitlines()) <= 30
    check(run_sweep("sweeps/examples/own_module.yaml", tmp_path), {"explore": 8, "refine": 6, "confirm": 6})


def test_the_example_of_an_own_loop(own_loop: Swept) -> None:
    from sweeps.examples.own_loop import trial

    assert len(inspect.getsource(trial).splitlines()) <= 21  # its `def`, and twenty lines
    check(own_loop, {"grid": 5, "confirm": 6})


def test_a_users_own_file_in_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    sweeps = BIN / "sweeps"
    written = run_command(sweeps, "init", "mine:Net", cwd=tmp_path)
    assert written.code == 0, written.out
    assert "sweeps plan sweep.yaml" in written.out
    planned = run_command(sweeps, "plan", "sweep.yaml", cwd=tmp_path)
    assert planned.code == 0, planned.out
    assert re.search(r"^explore +24 ", planned.out, re.MULTILINE), planned.out
    assert not (tmp_path / "runs").exists()
    assert run_command(sweeps, "init", "mine:Net", cwd=tmp_path).code == 2  # nothing of the user's is overwritten
    spec = tmp_path / "sweep.yaml"
    smaller = spec.read_text(encoding="utf-8").replace("trials: 24", "trials: 6").replace("trials: 12", "trials: 4")
    spec.write_text(smaller, encoding="utf-8")
    ran = run_command(sweeps, "run", "sweep.yaml", cwd=tmp_path)
    assert ran.code == 0, ran.out
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"Report  {folder}/report.html" in ran.out
    assert {"mine.py", "sweep.yaml", "runs"} == {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert "the data is made" not in ran.out
    assert "the data is made" in (folder / "logs" / "explore-000.log").read_text(encoding="utf-8")
    status = run_command(sweeps, "status", folder.name, cwd=tmp_path)
    assert status.code == 0, status.out
    assert f"{folder.name}: FINISHED" in status.out
    assert re.search(r"^ +explore +6/6 done", status.out, re.MULTILINE)
    report = folder / "report.html"
    report.unlink()
    again = run_command(sweeps, "report", folder.name, cwd=tmp_path)
    assert again.out == str(report)
    assert report.stat().st_size > 100_000


def test_the_python_api_with_a_class_of_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    storage = tmp_path / "storage"
    ran = run_command(sys.executable, script, storage, cwd=tmp_path, env=environment())
    assert ran.code == 0, ran.out
    said = dict(re.findall(r"^(CONFIG|SHAPE|VERDICT|ROWS|REPORT|QUICK) (.+)$", ran.out, re.MULTILINE))
    folders = {path.name.partition("-")[0]: path for path in storage.iterdir()}
    assert folders.keys() == {"sweep", "quick"}
    assert said["CONFIG"] == "['lr']"
    assert said["SHAPE"] == "(7, 2)"
    assert re.fullmatch(r"(ADOPT|MORE_SEEDS|KEEP_BASELINE) True", said["VERDICT"])
    swept = Swept(**vars(ran), folder=folders["sweep"])
    reports = of_kind(swept.journal, "report")
    assert said["ROWS"] == f"{len(reports)} True"
    assert all(math.isfinite(line["metrics"]["val/loss"]) for line in reports)
    assert said["REPORT"] == f"{folders['sweep']}/report.html True"
    assert said["QUICK"] == "0.05 FINISHED ['lr'] None"
    assert "__main__:Own" in (folders["sweep"] / "journal" / "0001-0000.jsonl").read_text(encoding="utf-8")
