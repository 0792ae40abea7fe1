"""The best model of a sweep in the registry of a real MLflow: what is there, that it loads without pickle, what is not.

The sweeps are trained here and journalled without Ray (trained.py), one with it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.models import get_model_info

from engine import run_toy
from integration.test_tracking import free_port, mlflow_server
from sweeps import Sweep, TrackingError, UsageError
from sweeps.cli import main
from sweeps.history import Record
from sweeps.tracking import default_uri, sync
from trainables.contract import Fidelity, instantiate, load
from trainables.data.rows import open_rows
from trained import EPOCHS, trained

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
DIGITS = "trainables.examples.digits:Digits"
GOOD, BASELINE = ({"lr": lr, "batch_size": 32, "width": 8, "depth": 1} for lr in (1e-2, 1e-5))
PREDICT = """
import sys
for name in ("sweeps", "trainables", "cluster", "toys"):
    sys.modules[name] = None  # who loads the model has none of ours
import mlflow, numpy, torch

x = numpy.load(sys.argv[2])
model = mlflow.pytorch.load_model(sys.argv[1])
with torch.no_grad():
    whole = model(torch.from_numpy(x)).numpy()
    single = numpy.concatenate([model(torch.from_numpy(x[n : n + 1])).numpy() for n in range(9)])
served = mlflow.pyfunc.load_model(sys.argv[1]).predict(x)
numpy.savez(sys.argv[3], whole=whole, single=single, served=served)
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of the digits that was confirmed and is in its own MLflow, its winner registered."""
    folder = trained(tmp_path_factory.mktemp("sweeps") / "digits", DIGITS, GOOD, BASELINE)
    sync(folder, default_uri(folder))
    assert Sweep.open(folder).register() == "models:/digits/1"
    return folder


def predicted(reference: str, uri: str, x: torch.Tensor, scratch: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """What the registered model says of the rows, in a process that has nothing of ours and may not unpickle."""
    np.save(scratch / "x.npy", x.numpy())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", PREDICT, reference, scratch / "x.npy", scratch / "y.npz"],
        env={**environment, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        cwd=scratch, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return dict(np.load(scratch / "y.npz"))


def validation(sweep: Sweep) -> torch.Tensor:
    """All validation inputs, as the loop feeds them."""
    best = sweep.best
    data = instantiate(load(best.trainable)).data(best.config, Fidelity(**best.fidelity))
    rows = open_rows("val", data.val, torch.device("cpu"))
    return next(iter(rows.batches(torch.arange(len(rows)), len(rows))))[0]


def agree(sweep: Sweep, reference: str, uri: str, scratch: Path, tolerance: float) -> None:
    """Both ways to load the registered model predict what `best.load()` does, all rows at once and one by one."""
    x, model = validation(sweep), sweep.best.load()
    with torch.no_grad():
        whole, single = model(x).numpy(), torch.cat([model(x[n : n + 1]) for n in range(9)]).numpy()
    found = predicted(reference, uri, x, scratch)
    assert len(np.unique(whole.round(3), axis=0)) > 5, "rows that all look alike would show nothing"
    np.testing.assert_allclose(found["whole"], whole, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found["served"], whole, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found["single"], single, rtol=0, atol=tolerance)


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of MLflow's tables."""
    with closing(sqlite3.connect(f"file:{folder}/mlflow.db?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=default_uri(folder))


def test_it_loads_without_pickle_or_our_code_and_predicts_the_same_to_the_last_bit(
    digits: Path, tmp_path: Path
) -> None:
    agree(Sweep.open(digits), "models:/digits@champion", default_uri(digits), tmp_path, tolerance=0.0)


def test_the_version_says_what_it_is(digits: Path) -> None:
    sweep = Sweep.open(digits)
    assert sweep.verdict is not None
    assert sweep.verdict.verdict == "ADOPT"
    version = client(digits).get_model_version_by_alias("digits", "champion")
    assert version.tags == {
        "sweep": "digits", "verdict": "ADOPT", "mlflow.source.git.commit": "0123abc", "sweep.git_dirty": "false",
        "sweep.uid": f"digits/{sweep.best.trial}", "phase": "confirm", "trial": sweep.best.trial, "role": "explore-000",
        "seed": str(sweep.best.fidelity["seed"]), "fidelity.epochs": str(EPOCHS), "fidelity.data_fraction": "1.0",
        "sweep.confirmed": "true", "sweep.checkpoint": f"checkpoints/{sweep.best.trial}/{EPOCHS}",
        "sweep.spec_digest": sweep.spec.digest, "trainable": DIGITS,
    }  # fmt: skip
    assert version.description.startswith("ADOPT explore-000: val/loss ")
    seed = f"seed {sweep.best.fidelity['seed']} of explore-000's config, after epoch {EPOCHS}, val/loss "
    assert f"The model is {sweep.best.trial} of digits: {seed}" in version.description


def test_the_model_has_a_signature_an_example_and_its_metrics(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", default_uri(digits))
    sweep, mlflow = Sweep.open(digits), client(digits)
    version = mlflow.get_model_version("digits", "1")
    model = mlflow.get_logged_model(version.source.rpartition("/")[2])
    assert (model.source_run_id, model.name) == (version.run_id, sweep.best.trial)
    assert str(digits) in model.artifact_location
    metrics = {metric.key: metric.value for metric in model.metrics}
    assert metrics["val/loss"] == sweep.best.metrics["val/loss"]
    assert metrics["best/val/loss"] == min(e.metrics["val/loss"] for e in sweep.history.trials[sweep.best.trial].epochs)
    assert sweep.verdict is not None
    assert metrics["seeds/val/loss_mean"] == sweep.verdict.best.mean
    assert metrics["seeds/val/loss_sd"] == pytest.approx(sweep.verdict.best.sd)
    assert sweep.history.verdict is not None
    read = [measured["test/accuracy"] for measured in sweep.history.verdict["test"]["explore-000"]]
    assert metrics["seeds/test/accuracy_mean"] == pytest.approx(sum(read) / 3)
    assert metrics["seeds/count"] == 3
    assert model.params["lr"] == "0.01"
    info = get_model_info("models:/digits@champion")
    assert info.signature.to_dict() == {
        "inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 8, 8]}}]',
        "outputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 10]}}]',
        "params": None,
    }
    assert info.saved_input_example_info is not None
    (saved,) = digits.rglob("input_example.json")
    assert saved.parent.name == "artifacts"
    assert not list(digits.rglob("*.pth")) + list(digits.rglob("*.pkl"))


def test_twice_is_one_version_brought_up_to_the_verdict_and_any_alias_may_point_to_it(
    digits: Path, tmp_path: Path
) -> None:
    grown = tmp_path / "digits"  # the same sweep after more was asked of it, and the same trial is still the best
    shutil.copytree(digits, grown, ignore=shutil.ignore_patterns("mlflow.db"))
    record = Record(grown)
    verdict = {name: value for name, value in (record.history.verdict or {}).items() if name not in ("kind", "at")}
    record.write("verdict", **{**verdict, "text": f"{verdict['text']} As before."})
    record.close()
    runs = query(digits, "SELECT run_uuid, status, end_time FROM runs ORDER BY run_uuid")
    command = ["register", str(grown), "--alias", "second", "--tracking-uri", default_uri(digits)]
    told = CliRunner().invoke(main, command, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert told.output.startswith("models:/digits/1, now models:/digits@second\nADOPT explore-000: ")
    assert query(digits, "SELECT name, version FROM model_versions") == [("digits", 1)]
    assert " As before.\n\nThe model is " in client(digits).get_model_version("digits", "1").description
    assert len(query(digits, "SELECT * FROM logged_models")) == 1
    assert client(digits).get_registered_model("digits").aliases == {"champion": 1, "second": 1}
    assert query(digits, "SELECT run_uuid, status, end_time FROM runs ORDER BY run_uuid") == runs
    assert {status for _, status, _ in runs} == {"FINISHED"}


def test_what_is_not_in_mlflow_is_told_how_to_come_there(digits: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(digits, alone, ignore=shutil.ignore_patterns("mlflow.db"))
    (journal,) = (alone / "journal").iterdir()
    journal.write_bytes(journal.read_bytes().replace(b'"id":"digits"', b'"id":"alone"'))  # another sweep
    told = CliRunner().invoke(main, ["register", str(alone)])
    assert told.exit_code == 2
    assert not (alone / "mlflow.db").exists()
    with pytest.raises(TrackingError, match=r"mlflow\.db is not there.*\n  `sweeps sync .*alone` writes it there"):
        Sweep.open(alone).register()
    with pytest.raises(TrackingError, match=r"no run of alone/confirm-00.\.\n  `sweeps sync .* --tracking-uri …`"):
        Sweep.open(alone).register(tracking=default_uri(digits))
    assert query(digits, "SELECT name FROM registered_models") == [("digits",)]


def test_a_server_that_is_not_there_and_one_whose_address_holds_a_password_are_refused(digits: Path) -> None:
    with pytest.raises(TrackingError, match="cannot be reached"):
        Sweep.open(digits).register(tracking=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TrackingError, match="has a password in it") as caught:
        Sweep.open(digits).register(tracking=f"http://someone:hunter2@127.0.0.1:{free_port()}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"alias": "latest"}, "alias: 'latest' is none that MLflow takes"),
        ({"alias": "v2"}, "alias: 'v2' is none"),
        ({"alias": ""}, "alias: '' is none"),
        ({"alias": "the best"}, "alias: 'the best' is none"),
        ({"name": "a/b"}, "name: 'a/b' is none that MLflow takes"),
        ({"name": " "}, "name: ' ' is none"),
    ],
)
def test_words_that_mlflow_would_refuse_are_refused_before_anything(
    digits: Path, given: dict[str, str], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        Sweep.open(digits).register(**given)


def test_a_loop_of_ones_own_is_refused(tmp_path: Path) -> None:
    folder = trained(tmp_path / "own", "toys:trial", {"value": 0.5})
    with pytest.raises(UsageError, match=r"toys:trial builds its model itself. Use .state\(\)"):
        Sweep.open(folder).register()
    folder = trained(tmp_path / "none", "toys:without_checkpoints", {"value": 0.5})
    with pytest.raises(UsageError, match="toys:without_checkpoints builds its model itself"):
        Sweep.open(folder).register()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainable", "config", "example", "tolerance"),
    [
        ("trainables.examples.films:Films", {"width": 16, "depth": 1}, "float32", 0.0),  # categories in embeddings
        ("trainables.examples.docstrings:Docstrings", {"width": 16, "depth": 1}, "int64", 1e-5),
        ("sweeps.examples.own_module:TumourNet", {"width": 16}, "float32", 0.0),  # a Dataset, no baseline
    ],
    ids=["table", "text", "own network"],
)
def test_every_kind_of_data_is_exported(
    tmp_path: Path, trainable: str, config: dict[str, Any], example: str, tolerance: float
) -> None:
    folder = trained(tmp_path / "kind", trainable, {"lr": 1e-2, "batch_size": 64, **config})
    sync(folder, default_uri(folder))
    sweep = Sweep.open(folder)
    assert sweep.register("any name", alias="first") == "models:/any name/1"
    version = client(folder).get_model_version("any name", "1")
    assert version.tags["sweep.confirmed"] == "false"
    assert version.description.startswith("Not confirmed: ")
    ((told,),) = query(folder, "SELECT artifact_location FROM logged_models")
    assert f'"dtype": "{example}"' in (Path(told) / "MLmodel").read_text()
    agree(sweep, "models:/any name/1", default_uri(folder), tmp_path, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainable", "why"),
    [
        ("toys:Branching", r"Network cannot be exported: Could not guard on data-dependent expression"),
        ("toys:Counting", r"Network is not the same once it is exported: on 1 rows, Guard failed"),
    ],
)
def test_a_network_that_cannot_be_exported_is_told_and_leaves_nothing(tmp_path: Path, trainable: str, why: str) -> None:
    folder = trained(tmp_path / "toy", trainable, {"lr": 1e-2, "batch_size": 4})
    sync(folder, default_uri(folder))
    with pytest.raises(TrackingError, match=why) as caught:
        Sweep.open(folder).register()
    assert "sweep.best.load()" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert query(folder, "SELECT * FROM logged_models") == query(folder, "SELECT * FROM registered_models") == []


@pytest.mark.slow
def test_it_is_registered_on_a_server(digits: Path, tmp_path: Path) -> None:
    folder, hub = tmp_path / "served", tmp_path / "hub"
    shutil.copytree(digits, folder, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    hub.mkdir()
    with mlflow_server(hub, free_port()) as uri:
        sync(folder, uri)
        told = CliRunner().invoke(main, ["register", str(folder), "--name", "ours", "--tracking-uri", uri])
        assert told.exit_code == 0, told.output
        agree(Sweep.open(folder), "models:/ours@champion", uri, tmp_path, tolerance=0.0)
    assert list((hub / "artifacts").rglob("model.pt2"))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_real_sweeps_winner_is_registered(tmp_path: Path) -> None:
    phases = [
        {"kind": "explore", "trials": 2, "epochs": 2, "data_fraction": 1.0, "reduction_factor": None},
        {"kind": "confirm", "top": 1, "seeds": 2},
    ]
    space, baseline = {"lr": {"log": [0.05, 0.2]}, "batch_size": 4}, {"lr": 1e-6, "batch_size": 4}
    sweep = run_toy(tmp_path, "toys:Tested", space=space, phases=phases, baseline=baseline)
    assert sweep.register("line") == "models:/line/1"
    model = client(sweep.folder).get_model_version_by_alias("line", "champion")
    assert sweep.verdict is not None
    assert model.description.startswith(sweep.verdict.text)
    agree(sweep, "models:/line@champion", default_uri(sweep.folder), tmp_path, tolerance=0.0)
