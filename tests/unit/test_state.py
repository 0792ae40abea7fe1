"""Checkpoints: what goes in comes out, what is torn is refused and named, and the bytes are foretold."""

import json
import random

import numpy as np
import pyarrow.fs
import pytest
import torch

from trainables.contract import TrainableError
from trainables.state import CheckpointError, capture_rng, load, pack, restore_rng, save, snapshot

CPU = torch.device("cpu")
LOCAL = pyarrow.fs.LocalFileSystem()


def some_state(epoch=3):
    return {
        "epoch": torch.tensor(epoch),
        "model": {"weight": torch.arange(6.0).reshape(2, 3)},
        "plain": [1, 2.5, "text", None, True, (4, 5)],
    }


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "trial" / "epoch-3")


def test_what_is_saved_is_loaded(path):
    save(some_state(), LOCAL, path, epoch=3)
    found = load(LOCAL, path)
    assert torch.equal(found["model"]["weight"], torch.arange(6.0).reshape(2, 3))
    assert found["plain"] == [1, 2.5, "text", None, True, (4, 5)]
    assert int(found["epoch"]) == 3


def test_the_manifest_says_what_there_is_and_no_other_file_stays(path, tmp_path):
    save(some_state(), LOCAL, path, epoch=3)
    folder = tmp_path / "trial" / "epoch-3"
    assert sorted(file.name for file in folder.iterdir()) == ["manifest.json", "state.pt"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["epoch"] == 3
    assert manifest["keys"] == ["epoch", "model", "plain"]
    assert manifest["files"]["state.pt"]["size"] == (folder / "state.pt").stat().st_size


@pytest.mark.parametrize("kind", ["subtree", "memory"])
def test_any_filesystem_of_pyarrow_will_do(kind, tmp_path):
    if kind == "subtree":
        filesystem = pyarrow.fs.SubTreeFileSystem(str(tmp_path), LOCAL)
    else:
        filesystem = pyarrow.fs._MockFileSystem()
    save(some_state(), filesystem, "runs/a", epoch=3)
    assert load(filesystem, "runs/a")["plain"] == some_state()["plain"]
    if kind == "subtree":
        assert (tmp_path / "runs" / "a" / "manifest.json").exists()


def test_a_checkpoint_can_be_replaced(path):
    save(some_state(), LOCAL, path, epoch=3)
    save({"other": 1}, LOCAL, path, epoch=4)
    assert load(LOCAL, path) == {"other": 1}


def test_a_writer_that_dies_half_way_leaves_no_checkpoint(path, tmp_path):
    save(some_state(), LOCAL, path, epoch=3)
    state = tmp_path / "trial" / "epoch-3" / "state.pt"
    state.unlink()
    (state / "in the way").mkdir(parents=True)  # now the rename of the new state fails
    with pytest.raises(OSError, match=r"state\.pt"):
        save(some_state(), LOCAL, path, epoch=4)
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing: it was never finished"):
        load(LOCAL, path)
    assert [file.name for file in state.parent.iterdir()] == ["state.pt"]


def test_a_missing_checkpoint_or_file_is_named(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"epoch-3: manifest\.json is missing"):
        load(LOCAL, path)
    save(some_state(), LOCAL, path, epoch=3)
    (tmp_path / "trial" / "epoch-3" / "state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"state\.pt is missing"):
        load(LOCAL, path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("state.pt", lambda b: b[:-7], r"state\.pt is torn: \d+ bytes, of \d+"),
        ("state.pt", lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], r"state\.pt is torn: its digest"),
        ("manifest.json", lambda b: b[:20], r"manifest\.json is torn"),
        ("manifest.json", lambda b: b"{}", r"manifest\.json is torn"),
        ("manifest.json", lambda b: b"[]", r"manifest\.json is torn"),
        ("manifest.json", lambda b: b.replace(b'"format": 1', b'"format": 2'), "format 2, this version reads 1"),
    ],
)
def test_a_torn_file_is_refused_and_named(path, tmp_path, name, damage, message):
    save(some_state(), LOCAL, path, epoch=3)
    file = tmp_path / "trial" / "epoch-3" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        load(LOCAL, path)


@pytest.mark.parametrize("value", [np.zeros(3), {1, 2}, np.float64(1), torch.nn.Linear(1, 1), lambda: 0])
def test_what_could_not_be_loaded_again_is_refused_before_it_is_written(path, tmp_path, value):
    with pytest.raises(TrainableError, match=r"state\['deep'\]\[1\] is a .*, which is not loaded"):
        save({"deep": [0, value]}, LOCAL, path, epoch=1)
    assert not (tmp_path / "trial").exists()


def test_the_bytes_depend_on_the_shapes_only(path):
    sizes = set()
    for epoch in (1, 9, 10, 255, 256, 70_000):
        state = {"epoch": torch.tensor(epoch), "weights": {"a": torch.randn(3), "b": torch.randn(4)}}
        sizes.add(sum(map(len, pack(state, epoch).values())))
    # Strings that are equal but not the same object, and containers met twice, as after a resume.
    name, items = "weights" * 100, [1.0] * 100
    apart = "".join(["weights"] * 100)
    assert apart is not name
    once = pack({"a": name, "b": name, "p": list(items), "q": list(items)}, 1)
    twice = pack({"a": name, "b": apart, "p": items, "q": items}, 1)
    assert len(sizes) == 1
    assert [len(b) for b in once.values()] == [len(b) for b in twice.values()]


def test_a_snapshot_shares_no_memory_with_what_it_was_taken_of():
    live = {"w": torch.zeros(2, requires_grad=True), "list": [1]}
    taken = snapshot(live)
    with torch.no_grad():
        live["w"].add_(1)
    live["list"].append(2)
    assert taken["w"].tolist() == [0, 0]
    assert not taken["w"].requires_grad
    assert taken["list"] == [1]


def draws():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.randn(3).tolist()


def test_all_generators_go_on_from_where_they_were(path):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    draws()  # leaves half a pair of normal draws in python's and numpy's cache
    save({"rng": capture_rng(CPU)}, LOCAL, path, epoch=1)
    expected = [draws() for _ in range(3)]
    restore_rng(load(LOCAL, path)["rng"], CPU)
    assert [draws() for _ in range(3)] == expected


def test_an_empty_cache_of_normal_draws_is_restored_as_empty():
    random.seed(2)
    np.random.seed(2)
    states = capture_rng(CPU)
    expected = draws()
    draws()
    restore_rng(states, CPU)
    assert draws()[:4] == expected[:4]
