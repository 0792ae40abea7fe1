"""A sweep that begins with another training's weights, on real Ray and from a real MLflow."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.fs
import pytest
import torch

from engine import run_toy, toy_spec
from sweeps import Sweep, TrackingError, UsageError
from sweeps.journal import read
from sweeps.warm_start import origins_of, resolve
from trainables import state
from trainables.warm_start import weights_at

pytestmark = pytest.mark.usefixtures("ray_session")
LINE = {"lr": {"log": [0.05, 0.2]}, "batch_size": 4}
PHASE = {"kind": "explore", "trials": 4, "epochs": 2, "data_fraction": 1.0, "reduction_factor": None}


def test_a_sweep_begins_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"weight": torch.full((1, 1), 2.0), "bias": torch.full((1,), 0.25)}
    state.save({"model": weights}, pyarrow.fs.LocalFileSystem(), str(tmp_path / "mine"), 1)
    monkeypatch.chdir(tmp_path)
    space = {"lr": {"log": [1e-9, 1e-8]}, "batch_size": 4, "warm_start": "mine"}
    sweep = run_toy(tmp_path / "runs", "toys:Line", space=space, phases=[{**PHASE, "trials": 2, "epochs": 1}])
    assert sweep.history.header["warm_start"] == [
        {"reference": "mine", "checkpoint": str(tmp_path / "mine"), "source": str(tmp_path / "mine")}
    ]
    for trial in sweep.history.trials.values():
        assert "warm start: 2 of 2 tensors\n" in (sweep.folder / "logs" / f"{trial.trial}.log").read_text()
        assert trial.epochs[0].metrics["val/loss"] == pytest.approx(0.25**2, rel=1e-4), "2 x is off by the bias"


@pytest.mark.slow
def test_a_sweep_begins_with_anothers_best_and_goes_on_without_it(tmp_path: Path) -> None:
    source = run_toy(tmp_path, "toys:Line", name="source", space=LINE, phases=[{**PHASE, "trials": 3, "epochs": 6}])
    best = source.best
    weights = best.state()["model"]
    reference = f"sweep:{source.folder.name}"
    tiny = {"lr": {"log": [1e-9, 1e-8]}, "batch_size": 4}  # what is reported is what it began with
    spec = toy_spec(
        tmp_path, "toys:Line", space={**tiny, "warm_start": [None, reference]}, phases=[PHASE],
        baseline={"lr": 1e-9, "warm_start": reference},
    )  # fmt: skip
    out = io.StringIO()
    sweep = Sweep(spec).run(out=out)
    (origin,) = origins_of(sweep.history)
    assert (origin.reference, origin.source) == (reference, str(best.checkpoint))
    assert f"warm start: {reference} is {best.checkpoint}" in out.getvalue()
    assert Path(origin.checkpoint).parent == sweep.folder / "warm_start"
    trials = sweep.history.trials.values()
    assert {trial.config["warm_start"] for trial in trials} == {None, origin.checkpoint}
    for trial in trials:
        log = (sweep.folder / "logs" / f"{trial.trial}.log").read_text()
        warm = trial.config["warm_start"] is not None
        assert ("warm start: 2 of 2 tensors\n" in log) is warm
        assert (abs(trial.epochs[0].metrics["val/loss"] - best.metrics["val/loss"]) < 1e-6) is warm
    assert sweep.best.config["warm_start"] == origin.checkpoint
    begun = sweep.best.state()["model"]
    assert all(torch.allclose(begun[name], weights[name], atol=1e-6) for name in weights)
    with closing(sqlite3.connect(sweep.folder / "mlflow.db")) as connection:
        (tag,) = connection.execute("SELECT value FROM tags WHERE key = 'sweep.warm_start'").fetchone()
    assert tag == f"{reference}: {best.checkpoint}"

    shutil.rmtree(source.folder)
    grown = Sweep.open(sweep.folder).extend(4, spec=spec, out=io.StringIO())
    assert [trial.status for trial in grown.history.trials.values()] == ["FINISHED"] * 8
    assert {trial.config["warm_start"] for trial in grown.history.trials.values()} == {None, origin.checkpoint}
    headers = [line["warm_start"] for line in read(grown.folder) if line["kind"] == "sweep"]
    assert headers == [headers[0]] * 2


def test_nothing_is_left_of_a_sweep_whose_reference_or_baseline_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no sweep at nowhere"):
        run_toy(tmp_path / "a", "toys:Line", space={**LINE, "warm_start": "sweep:nowhere"})
    other = torch.nn.Linear(3, 3).state_dict()
    state.save({"model": dict(other)}, pyarrow.fs.LocalFileSystem(), str(tmp_path / "other"), 1)
    with pytest.raises(UsageError, match=r"config: warm_start: no weight fits Linear"):
        run_toy(tmp_path / "b", "toys:Line", space={**LINE, "warm_start": str(tmp_path / "other")})
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


REGISTER = """
import json, sys
import mlflow, numpy, torch
import toys
from torch import nn

uri, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
line, other, rows = nn.Linear(1, 1), toys.Line().model({}, None), numpy.zeros((4, 1), dtype=numpy.float32)
nn.init.constant_(line.weight, 2.0), nn.init.constant_(line.bias, 0.25)
experiment = mlflow.create_experiment("models", artifact_location=folder)
needs = {"pip_requirements": ["torch"]}
with mlflow.start_run(experiment_id=experiment) as run:
    named = mlflow.pytorch.log_model(line, name="line", input_example=rows, registered_model_name="line", **needs)
    pickled = mlflow.pytorch.log_model(toys.Pickled(), name="pickled", serialization_format="pickle", **needs)
    mlflow.pyfunc.log_model(name="words", python_model=toys.words, registered_model_name="words", **needs)
mlflow.MlflowClient().set_registered_model_alias("line", "best", 1)
print(json.dumps({"run": run.info.run_id, "id": named.model_id, "pickled": pickled.model_id}))
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An MLflow with a registered model `line` (weight 2, bias 0.25), a pickled one, and one that is not of torch."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REGISTER, uri, str(folder / "artifacts")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {**json.loads(done.stdout.splitlines()[-1]), "uri": uri}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "bias"),
    [
        ("models:/line/1", 0.25),
        ("runs:/{run}/line", 0.25),
        ("models:/{pickled}", 0.5),  # by its id; that by an alias is in the test of a whole sweep
    ],
)
def test_a_model_in_mlflow_becomes_a_checkpoint(
    registry: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, bias: float
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry["uri"])  # the spec's own is used in the test below
    (tmp_path / "mlflow.py").write_text("raise SystemExit('this is not MLflow')")
    monkeypatch.chdir(tmp_path)
    spec = toy_spec(tmp_path, "toys:Line", space={**LINE, "warm_start": reference.format(**registry)})
    _, (origin,) = resolve(spec, tmp_path / "new")
    assert origin.source == f"models:/{registry['pickled' if bias == 0.5 else 'id']}"
    assert {name: value.item() for name, value in weights_at(origin.checkpoint).items()} == {
        "weight": 2.0,
        "bias": bias,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("models:/nowhere/1", r"gives no models:/nowhere/1 \(Registered Model with name=nowhere not found\)\.\n  Give"),
        ("runs:/nowhere/line", "Run with id=nowhere not found"),
        ("models:/words/1", r"it is no PyTorch model, it has python_function\)"),
    ],
)
def test_what_mlflow_does_not_have_is_told(registry: dict[str, str], tmp_path: Path, reference: str, why: str) -> None:
    spec = toy_spec(tmp_path, space={**LINE, "warm_start": reference}, tracking=registry["uri"])
    with pytest.raises(TrackingError, match=why) as caught:
        resolve(spec, tmp_path / "new")
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_sweep_begins_with_a_registered_model(registry: dict[str, str], tmp_path: Path) -> None:
    space = {"lr": {"log": [1e-9, 1e-8]}, "batch_size": 4, "warm_start": "models:/line@best"}
    sweep = run_toy(tmp_path, "toys:Line", space=space, phases=[PHASE], tracking=registry["uri"])
    for trial in sweep.history.trials.values():
        assert "warm start: 2 of 2 tensors\n" in (sweep.folder / "logs" / f"{trial.trial}.log").read_text()
        assert trial.epochs[0].metrics["val/loss"] == pytest.approx(0.25**2, rel=1e-4), "2 x is off by the bias"
