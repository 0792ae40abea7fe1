"""A trial's state on storage, and the state of the random generators.

Place in the flow: whoever drives a trial calls `session.capture()` when a checkpoint is due and `save`s the result;
a later attempt `load`s it into `session.state`. Two files make a checkpoint:

    <path>/state.pt        torch.save of plain containers and tensors
    <path>/state-<r>.pt    of a sharded model: rank r's rows of its tensors, where state.pt has rank 0's
    <path>/manifest.json   {format, epoch, keys, files: {name: {size, sha256}}}; written last

A checkpoint without a manifest does not exist, so a writer that dies leaves nothing half-usable, on file systems with
rename as on object stores, where an object appears whole or not at all. Write every epoch to a path of its own.

The bytes depend on the shapes alone, not on the values: containers are rebuilt and strings interned before pickling
(pickle writes an object that it met before as a short reference), and the manifest has a fixed width. So the plan can
say exactly what a sweep's checkpoints will take.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import torch

from trainables import parallel, shards
from trainables.contract import TrainableError

FORMAT = 1
STATE, MANIFEST = "state.pt", "manifest.json"
OBJECT_STORES = ("s3", "gcs", "abfs")
"""Have no folders: making them costs a call each and leaves litter."""
_EPOCH_DIGITS = 9


class CheckpointError(Exception):
    """A checkpoint cannot be read: the message names the file, and whether it is missing or torn."""


def snapshot(value: Any, where: str = "state") -> Any:
    """A deep copy on the CPU that shares no memory with a live model: fresh containers, cloned tensors.

    Raises TrainableError for anything that a checkpoint cannot be loaded back from (`weights_only=True`).
    """
    return shards.part(value) if isinstance(value, torch.Tensor) else _rebuilt(value, where, snapshot)


def pack(state: dict[str, Any], epoch: int) -> dict[str, bytes]:
    """The files of a checkpoint that this rank has to write: name -> bytes, in that order; the manifest is rank 0's.

    All ranks take part.
    """
    rank, rows = parallel.rank(), list(shards.parts(state))
    if rank and not rows:
        return {}
    buffer = io.BytesIO()
    torch.save(_canonical(rows if rank else state), buffer)
    files = {f"state-{rank}.pt" if rank else STATE: buffer.getvalue()}
    described = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    every = parallel.gather(described) if rows else [described]
    if rank == 0:
        manifest = {
            "format": FORMAT,
            "epoch": epoch,
            "keys": sorted(map(str, state)),
            "files": {name: of for found in every for name, of in found.items()},
        }
        # Blanks after a JSON document mean nothing; they stand for the digits that a later epoch will need.
        padding = " " * (_EPOCH_DIGITS - len(str(epoch)))
        files[MANIFEST] = (json.dumps(manifest) + padding).encode()
    return files


def save(
    state: dict[str, Any],
    filesystem: pyarrow.fs.FileSystem,
    path: str,
    epoch: int,
    attempt: Callable[[Callable[[], None]], None] = lambda write: write(),
) -> None:
    """Commit a trial's state at the end of `epoch` as the checkpoint at `path`; all ranks take part.

    Each write goes through `attempt`, which may try again what an outage of the storage has failed. Raises
    TrainableError when the state holds what could not be loaded again; OSError when storage fails.
    """
    files = pack(state, epoch)
    together = any(True for _ in shards.parts(state))
    if parallel.rank() == 0:
        attempt(lambda: _make_room(filesystem, path))
    if together:  # the folder is there, and no old manifest
        parallel.gather(None)
    manifest = files.pop(MANIFEST, None)
    for name, content in files.items():
        attempt(partial(_write, filesystem, f"{path}/{name}", content))
    if together:  # all parts are there
        parallel.gather(None)
    if manifest is not None:
        attempt(lambda: _write(filesystem, f"{path}/{MANIFEST}", manifest))


def _make_room(filesystem: pyarrow.fs.FileSystem, path: str) -> None:
    if filesystem.type_name not in OBJECT_STORES:
        filesystem.create_dir(path, recursive=True)
    if filesystem.get_file_info(f"{path}/{MANIFEST}").type != pyarrow.fs.FileType.NotFound:
        # Replacing: the old checkpoint ends here, else its manifest would vouch for the new state's bytes.
        filesystem.delete_file(f"{path}/{MANIFEST}")


def load(filesystem: pyarrow.fs.FileSystem, path: str) -> dict[str, Any]:
    """The whole state that `save` committed at `path`, on the CPU, whatever number of ranks wrote it.

    Raises CheckpointError when it is missing or torn.
    """
    try:
        manifest = json.loads(_read(filesystem, path, MANIFEST))
        written, files = manifest["format"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: {MANIFEST} is torn ({error})") from None
    if written != FORMAT:
        raise CheckpointError(
            f"checkpoint {path}: {MANIFEST} is of format {written}, this version reads {FORMAT}. "
            "Read it with the version that wrote it"
        )
    first, *others = (_loaded(filesystem, path, name, **of) for name, of in files.items())
    state: dict[str, Any] = shards.joined(first, list(map(iter, others)))
    return state


def _loaded(filesystem: pyarrow.fs.FileSystem, path: str, name: str, size: int, sha256: str) -> Any:
    content = _read(filesystem, path, name)
    if len(content) != size:
        raise CheckpointError(f"checkpoint {path}: {name} is torn: {len(content)} bytes, of {size}")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(f"checkpoint {path}: {name} is torn: its digest is not the manifest's")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def capture_rng(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of every generator that training draws from (python, numpy, torch, the CUDA device's), as tensors."""
    _, words, gauss = random.getstate()
    numbers = np.random.get_state(legacy=False)
    keys, position = numbers["state"]["key"], numbers["state"]["pos"]
    states = {
        # nan stands for "no cached normal draw", which python keeps as None
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor(math.nan if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), position, numbers["has_gauss"]], dtype=torch.int64),
        "numpy_gauss": torch.tensor(numbers["gauss"], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put the generators back to where `capture_rng` found them."""
    gauss = states["python_gauss"].item()
    random.setstate((3, tuple(states["python"].tolist()), None if math.isnan(gauss) else gauss))
    *keys, position, has_gauss = states["numpy"].tolist()
    numbers = np.array(keys, dtype=np.uint32)
    np.random.set_state(("MT19937", numbers, position, has_gauss, states["numpy_gauss"].item()))
    torch.set_rng_state(states["torch"])
    # A state saved on a CPU may go on on a GPU: then the GPU's generator stays as it was seeded.
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def renew_rng(device: torch.device) -> None:
    """Have every generator draw on from what `capture_rng` takes of it, and from nothing else.

    cuDNN draws the dropout between recurrent layers from a state of its own, which nobody can read; setting the
    device's generator, if only to where it is, has that made anew from it.
    """
    if device.type == "cuda":
        torch.cuda.set_rng_state(torch.cuda.get_rng_state(device), device)


def _canonical(value: Any, where: str = "state") -> Any:
    return value if isinstance(value, torch.Tensor) else _rebuilt(value, where, _canonical)


def _rebuilt(value: Any, where: str, inner: Any) -> Any:
    if isinstance(value, str):
        return sys.intern(str(value))
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, dict):
        return {_rebuilt(key, where, inner): inner(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = (inner(item, f"{where}[{index}]") for index, item in enumerate(value))
        return list(items) if isinstance(value, list) else tuple(items)
    raise TrainableError(
        f"checkpoint: {where} is a {type(value).__name__}, which is not loaded from storage. "
        "Keep tensors, numbers, strings, lists, tuples and dicts: turn arrays to tensors with torch.as_tensor"
    )


def _read(filesystem: pyarrow.fs.FileSystem, path: str, name: str) -> bytes:
    try:
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            content: bytes = stream.readall()
    except FileNotFoundError:
        why = "it was never finished, or was removed" if name == MANIFEST else "it was removed"
        raise CheckpointError(f"checkpoint {path}: {name} is missing: {why}") from None
    return content


def _local(filesystem: pyarrow.fs.FileSystem, path: str) -> Path | None:
    if isinstance(filesystem, pyarrow.fs.SubTreeFileSystem):
        return _local(filesystem.base_fs, f"{filesystem.base_path.rstrip('/')}/{path}")
    return Path(path) if isinstance(filesystem, pyarrow.fs.LocalFileSystem) else None


def _write(filesystem: pyarrow.fs.FileSystem, path: str, content: bytes) -> None:
    local = _local(filesystem, path)
    if local is not None:
        _write_durably(local, content)
        return
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def _write_durably(target: Path, content: bytes) -> None:
    """Write so that after a power cut the name has either all of the content or does not exist."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # it is still there only when the disk was full or failed
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
