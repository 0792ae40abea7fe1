"""What `warm_start` in a spec refers to: each kind of reference, made a checkpoint; each that leads nowhere, told."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sweeps import warm_start
from sweeps.cli import main
from sweeps.errors import SpecError, TrackingError, UsageError
from sweeps.foresight import foresee
from sweeps.history import Record
from sweeps.journal import FORMAT
from sweeps.resume import accepted
from sweeps.retention import MANIFEST
from sweeps.space import Space
from sweeps.spec import SweepSpec
from sweeps.storage import files, opened, place
from sweeps.warm_start import Origin, meant, resolve, resolved
from trainables import shards, state
from trainables.warm_start import weights_at
from unit.trainable_helpers import Blobs

LR = {"log": [1e-4, 1e-1]}
TRIALS = {"explore-000": (0.5, 2), "explore-001": (0.1, 3), "explore-002": (0.3, None)}
"""Trial -> its loss, and the epoch of its checkpoint; explore-001 is the best."""


def weights(seed):
    torch.manual_seed(seed)
    return Blobs().model({}, None).state_dict()


def other_sweep(folder, trials=TRIALS):
    """The journal and the checkpoints of a sweep with these trials."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True)
    record = Record(folder)
    spec = SweepSpec(trainable="a:b", space={"x": [1, 2]})
    record.write(
        "sweep", format=FORMAT, name=folder.name, spec=spec.document(), spec_digest="", generation=1, git=None,
        versions={}, hardware={}, began=0.0, ready=0.0,
    )  # fmt: skip
    space = spec.space.model_dump(mode="json", by_alias=True)
    record.write("phase", phase="explore", phase_kind="explore", space=space, changes=[], comparison=None, trials=4)
    for number, (trial, (loss, saved)) in enumerate(trials.items()):
        fidelity = {"epochs": 3, "data_fraction": 1.0, "seed": 0}
        record.write("trial", phase="explore", trial=trial, attempt=1, role="sobol", config={"x": 1}, fidelity=fidelity)
        pointer = f"checkpoints/{trial}/{saved}" if saved else None
        if pointer:
            filesystem, path = opened(folder / pointer)
            state.save({"model": weights(number)}, filesystem, path, saved)
        record.write(
            "report", trial=trial, attempt=1, epoch=3, metrics={"val/loss": loss}, checkpoint=pointer, seconds=1.0,
            slot=7,
        )  # fmt: skip
        record.write("end", trial=trial, status="FINISHED", reason="", seconds=0.0, whole=True)
    record.close()
    return folder


@pytest.fixture
def storage(tmp_path):
    """A storage with one sweep, `other`."""
    other_sweep(tmp_path / "runs" / "other")
    return tmp_path / "runs"


def spec_of(storage, value, **fields):
    space = {"lr": LR, "batch_size": 16, "warm_start": value}
    given = {"trainable": "unit.trainable_helpers:Blobs", "space": space, "storage": str(storage), **fields}
    return SweepSpec.model_validate(given)


def same(where, seed):
    found = weights_at(where)
    return all(torch.equal(found[name], value) for name, value in weights(seed).items())


def fail_later(spec, folder, began=False):
    """Begin a sweep that fails: before its journal, or after."""
    with resolved(spec, folder, lambda text: None) as (whole, _):
        assert same(whole.space["warm_start"].constant, 1)
        if began:
            (folder / "journal").mkdir()
        raise UsageError("later")


@pytest.mark.parametrize(
    ("reference", "seed", "source"),
    [
        ("sweep:other", 1, "other/checkpoints/explore-001/3"),
        ("sweep:other#explore-000", 0, "other/checkpoints/explore-000/2"),
        ("sweep:{storage}/other#explore-001", 1, "other/checkpoints/explore-001/3"),
        ("sweep:runs/other", 1, "other/checkpoints/explore-001/3"),
    ],
)
def test_another_sweeps_checkpoint_is_copied_and_outlives_it(storage, tmp_path, monkeypatch, reference, seed, source):
    monkeypatch.chdir(tmp_path)
    reference = reference.format(storage=storage)
    told = []
    spec, origins = resolve(spec_of(storage, reference), tmp_path / "new", told.append)
    copy = spec.space["warm_start"].constant
    assert origins == [Origin(reference, copy, f"{storage}/{source}")]
    assert told == [f"warm start: {reference} is {storage}/{source}"]
    assert copy.startswith(f"{tmp_path}/new/warm_start/")
    shutil.rmtree(storage)
    assert same(copy, seed)


def test_a_checkpoint_is_used_where_it_lies_by_its_absolute_path(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(storage)
    there = storage / "other" / "checkpoints" / "explore-000" / "2"
    for given in ("other/checkpoints/explore-000/2", str(there), f"file://{there}"):
        spec, origins = resolve(spec_of(storage, given), tmp_path / "new")
        assert spec.space["warm_start"].constant == str(there)
        assert origins == [Origin(given, str(there), str(there))]
    assert not (tmp_path / "new").exists()


def test_a_sweep_in_an_object_store_begins_with_one_in_another_place(bucket, storage):
    there = other_sweep(place(bucket) / "team" / "there")
    for reference, folder in ((f"sweep:{there}", storage / "new"), ("sweep:other", place(bucket) / "team" / "new")):
        spec, (origin,) = resolve(spec_of(storage, reference), folder)
        assert same(origin.checkpoint, 1)
        assert str(spec.space["warm_start"].constant).startswith(str(folder))
    spec, (origin,) = resolve(spec_of(storage, f"{there}/checkpoints/explore-000/2"), storage / "new")
    assert same(origin.checkpoint, 0)
    failed = place(bucket) / "failed"
    with pytest.raises(UsageError, match="later"):
        fail_later(spec_of(storage, "sweep:other"), failed)
    assert files(failed) == []


def test_cold_or_warm_is_a_choice_and_a_condition(storage, tmp_path):
    space = {
        "lr": LR,
        "warm_start": [None, "sweep:other", "sweep:other#explore-000"],
        "freeze_depth": {"int": [0, 2], "when": {"warm_start": ["sweep:other", "sweep:other#explore-000"]}},
        "adamw.warm_start": {"choice": [None, "sweep:other"], "when": {"optimizer": "adamw"}},
        "optimizer": ["sgd", "adamw"],
        "width": ["sweep:other", 3],
    }
    baseline = {"lr": 0.1, "optimizer": "sgd", "warm_start": "sweep:other#explore-001", "width": "sweep:other"}
    spec = spec_of(storage, None, space=space, baseline={**baseline, "freeze_depth": 1})
    done, origins = resolve(spec, tmp_path / "new")
    best, first, named = (origin.checkpoint for origin in origins)
    assert named == best != first, "the same weights, the same copy"
    assert done.space["warm_start"].choice == (None, best, first)
    assert done.space["adamw.warm_start"].choice == (None, best)
    assert done.space["freeze_depth"].when == {"warm_start": (best, first)}
    assert done.space["width"].choice == ("sweep:other", 3), "another parameter's values are its own business"
    assert (done.baseline["warm_start"], done.baseline["width"]) == (best, "sweep:other")
    configs = done.space.grid(2)
    assert {config["warm_start"] for config in configs} == {None, best, first}
    assert all(("freeze_depth" in config) == (config["warm_start"] is not None) for config in configs)
    assert SweepSpec.model_validate(done.document()) == done
    for point in (done.space.encode(config) for config in configs):
        assert done.space.decode(point) in configs


def test_what_is_no_text_is_the_trainables_business(storage, tmp_path):
    for value in ([True, False], {"float": [0.0, 1.0]}, {"constant": None}, [1, 2]):
        spec = spec_of(storage, value)
        assert resolve(spec, tmp_path / "new") == (spec, [])


def test_values_are_exchanged_where_they_are_listed_only():
    space = Space({"a": [1, 2], "b": {"int": [1, 2], "when": {"a": 1}}, "c": 1})
    other = space.exchanged(["a", "b"], lambda value: value + 10)
    assert other == Space({"a": [11, 12], "b": {"int": [1, 2], "when": {"a": 11}}, "c": 1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sweep:nowhere", r"space\.warm_start: there is no sweep at nowhere, nor under .*/runs\."),
        (
            "sweep:other#explore-01",
            r"no trial 'explore-01'\n  Did you mean explore-001\? .*: explore-000, explore-001\.",
        ),
        ("sweep:other#", r"no trial ''\n  Trials with a checkpoint: explore-000"),
        (
            "sweep:other#explore-002",
            r"explore-002 of .*/other has written no checkpoint\n  .*: explore-000, explore-001",
        ),
        ("sweep:empty", r"no trial of .*/empty has a result yet\n  Wait for one"),
        ("sweep:empty#explore-000", r"no trial 'explore-000'\n  None of its trials has a checkpoint now"),
        ("sweep:gone", r"checkpoint of explore-001 of .*/gone is not there any more.*\n  .*: explore-000\."),
        ("sweep:torn", r"the checkpoint .*/torn/checkpoints/explore-001/3 is torn"),
        ("sweep:damaged", r"space\.warm_start: journal: "),
        ("nowhere/at/all", r"there is no checkpoint at /.*/nowhere/at/all\n  Write a checkpoint's folder, sweep:"),
        ("other", r"no checkpoint at .*/other\n  It is a sweep: write sweep:other, which means its best trial\."),
        ("model:/a/1", r"model:/a/1 has one slash after model:"),
        ("s3://me:hush@bucket/a", r"s3://…@bucket holds a secret"),
        (
            ["sweep:other", "sweep:other#explore-001"],
            r"sweep:other and sweep:other#explore-001 are the same checkpoint",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_told(storage, tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(storage)
    other_sweep(storage / "empty", {})
    gone, torn, damaged = (other_sweep(storage / name) for name in ("gone", "torn", "damaged"))
    shutil.rmtree(gone / "checkpoints" / "explore-001")
    (torn / "checkpoints" / "explore-001" / "3" / "state.pt").write_bytes(b"torn")
    (journal,) = (damaged / "journal").glob("*.jsonl")
    journal.write_bytes(b"{not json\n" + journal.read_bytes())
    with (
        pytest.raises(SpecError, match=message) as caught,
        resolved(spec_of(storage, value), tmp_path / "new", lambda text: None),
    ):
        pass
    assert "hush" not in str(caught.value)
    assert not list((tmp_path / "new").rglob("*.*"))


def test_the_baselines_reference_is_told_as_the_baselines(storage, tmp_path):
    spec = spec_of(storage, [None, "sweep:other"], baseline={"lr": 0.1, "warm_start": "sweep:nowhere"})
    with pytest.raises(SpecError, match=r"^baseline\.warm_start: there is no sweep"):
        resolve(spec, tmp_path / "new")


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_looked_up_again(storage, tmp_path, monkeypatch):
    """As of a trial at work: between the journal and the checkpoint it had its next epoch."""
    real, asked = warm_start.copied, []

    def copied(key, checkpoint, folder):
        asked.append(checkpoint)
        if len(asked) == 1:
            raise FileNotFoundError
        return real(key, checkpoint, folder)

    monkeypatch.setattr(warm_start, "copied", copied)
    _, (origin,) = resolve(spec_of(storage, "sweep:other"), tmp_path / "new")
    assert same(origin.checkpoint, 1)
    assert len(asked) == 2


def test_what_was_copied_stays_with_a_sweep_that_began_only(storage, tmp_path):
    for began in (False, True):
        new = tmp_path / f"new-{began}"
        with pytest.raises(UsageError, match="later"):
            fail_later(spec_of(storage, "sweep:other"), new, began)
        assert (new / "warm_start").exists() is began


def test_the_same_spec_given_anew_refers_to_what_the_sweep_began_with(storage, tmp_path):
    given = spec_of(storage, [None, "sweep:other"])
    spec, origins = resolve(given, tmp_path / "new")
    shutil.rmtree(storage)
    more = given.model_copy(update={"budget": given.budget.model_copy(update={"hours": 1.0})})
    assert accepted(spec, meant(more, origins)).space == spec.space
    with pytest.raises(UsageError, match="space changed"):
        accepted(spec, meant(spec_of(storage, [None, "sweep:third"]), origins))


def test_a_model_in_mlflow_needs_a_place_to_ask(storage, tmp_path):
    asked = spec_of(storage, "models:/digits/1")
    with pytest.raises(TrackingError, match=r"models:/digits/1 .*neither .* says where\.\n  Set one of them"):
        resolve(asked, tmp_path / "new")
    missing = f"sqlite:///{tmp_path}/missing.db"
    with pytest.raises(TrackingError, match=r"missing\.db is not there, so models:/digits/1 is not"):
        resolve(spec_of(storage, "models:/digits/1", tracking=missing), tmp_path / "new")
    assert not (tmp_path / "missing.db").exists()


def test_no_secret_of_the_place_that_is_asked_is_told(storage, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    with pytest.raises(TrackingError, match="has a password in it") as caught:
        resolve(spec_of(storage, "runs:/abc/model"), tmp_path / "new")
    assert "hush" not in str(caught.value)


def test_plan_and_doctor_know_references(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = foresee(spec_of(storage, [None, "sweep:other"], baseline={"lr": 0.01, "warm_start": "sweep:other"}))
    assert plan.footprint["parameters"] == sum(p.numel() for p in Blobs().model({}, None).parameters())
    text = (
        "trainable: unit.trainable_helpers:Blobs\n"
        "space: {lr: {log: [1.0e-4, 1.0e-1]}, batch_size: 16, warm_start: [null, 'sweep:other']}\n"
        "baseline: {lr: 1.0e-3, warm_start: 'sweep:other'}\n"
    )
    (tmp_path / "sweep.yaml").write_text(text)
    for command in (["plan", "sweep.yaml"], ["doctor", "sweep.yaml"]):
        answer = CliRunner().invoke(main, command, standalone_mode=False)
        assert (answer.exit_code, answer.exception) == (0, None), answer.output
    assert "sweep:other" in CliRunner().invoke(main, ["plan", "sweep.yaml"]).output, "as the spec says it"
    (tmp_path / "sweep.yaml").write_text(text.replace("sweep:other", "sweep:nowhere"))
    for command in ("plan", "doctor"):
        answer = CliRunner().invoke(main, [command, "sweep.yaml"])
        assert answer.exit_code == 2
        assert "space.warm_start: there is no sweep at nowhere" in answer.output
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "sweep.yaml"}


def test_the_manifest_of_a_checkpoint_is_called_as_the_loop_calls_it():
    assert state.MANIFEST == MANIFEST


def two_parts(folder, epoch):
    """The checkpoint of a model that two ranks shared, as each of them would have written it."""
    whole = weights(5)
    matrices = {name: value.chunk(2) for name, value in whole.items() if value.ndim == 2}
    halves = [{name: {shards.SHARD: parts[rank]} for name, parts in matrices.items()} for rank in (0, 1)]
    rest = {name: value for name, value in whole.items() if name not in matrices}
    contents = {"state.pt": {"model": {**halves[0], **rest}}, "state-1.pt": list(shards.parts(halves[1]))}
    folder.mkdir(parents=True, exist_ok=True)
    described = {}
    for name, value in contents.items():
        torch.save(value, folder / name)
        content = (folder / name).read_bytes()
        described[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"format": state.FORMAT, "epoch": epoch, "keys": ["model"], "files": described}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_all_parts_of_a_sharded_checkpoint_are_copied(storage, tmp_path):
    folder = storage / "other" / "checkpoints" / "explore-001" / "3"
    two_parts(folder, 3)
    spec, _ = resolve(spec_of(storage, "sweep:other"), tmp_path / "new")
    shutil.rmtree(storage)
    assert same(spec.space["warm_start"].constant, 5)


def test_a_part_that_is_torn_is_told(storage, tmp_path):
    folder = storage / "other" / "checkpoints" / "explore-001" / "3"
    two_parts(folder, 3)
    (folder / "state-1.pt").write_bytes(b"torn")
    with pytest.raises(SpecError, match="explore-001/3 is torn"):
        resolve(spec_of(storage, "sweep:other"), tmp_path / "new")
