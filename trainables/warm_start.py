"""Warm start: another training's weights to begin with, parts of them frozen, the head at a rate of its own.

Place in the flow: `training.prepare` asks here after the model is built and before its optimizer. The checkpoint is
named by its path or URI; a sweep resolves a trial or another sweep to one.
"""

from __future__ import annotations

from typing import Any

import pyarrow.fs
import torch
from torch import nn

from trainables import state
from trainables.contract import TrainableError


def weights_at(where: str) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint that our loop saved: the average, where it kept one.

    `where` is a folder, or a URI of any file system of pyarrow. Raises TrainableError when it cannot be read or holds
    no weights.
    """
    try:
        opened = pyarrow.fs.FileSystem.from_uri(where) if "://" in where else (pyarrow.fs.LocalFileSystem(), where)
        saved = state.load(*opened)
    except (state.CheckpointError, OSError, ValueError) as error:
        raise TrainableError(f"config: warm_start: {error}. Give the folder of a checkpoint") from None
    if "model" not in saved:
        raise TrainableError(f"config: warm_start: {where} holds no weights, only {', '.join(saved)}")
    return kept_weights(saved)


def kept_weights(saved: dict[str, Any]) -> dict[str, Any]:
    """The weights of a captured state that are the ones to keep: the average, where there is one."""
    if "average" not in saved:
        return dict(saved["model"])
    return {name.removeprefix("module."): value for name, value in saved["average"].items() if name != "n_averaged"}


def begin(model: nn.Module, weights: dict[str, torch.Tensor]) -> str:
    """Put the weights that fit into the model; in words, what did not fit.

    Raises TrainableError when none fits: it is another network's.
    """
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not any(own[name].is_floating_point() for name in fitting):
        raise TrainableError(
            f"config: warm_start: no weight fits {type(model).__name__}: it has {some(own)}, the checkpoint has "
            f"{some(weights)}. Build the same network, or start cold"
        )
    model.load_state_dict(fitting, strict=False)
    parts = {
        "missing there": [name for name in own if name not in weights],
        "not in this model": [name for name in weights if name not in own],
        "of another shape": [name for name in weights if name in own and name not in fitting],
    }
    left = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)
    return f"warm start: {len(fitting)} of {len(own)} tensors{f' ({left})' if left else ''}"


def freeze(model: nn.Module, depth: int) -> None:
    """Freeze the first `depth` parts of the model: its children in order, those of a Sequential one by one.

    Frozen parameters are not trained; their norms' running statistics still follow the data. Raises TrainableError when
    nothing would be left to train.
    """
    parts = parts_of(model)
    if depth >= len(parts):
        raise TrainableError(
            f"config: freeze_depth is {depth}, and {type(model).__name__} has {len(parts)} parts with weights. "
            f"Give at most {len(parts) - 1}"
        )
    for part in parts[:depth]:
        part.requires_grad_(False)


def head(model: nn.Module) -> set[int]:
    """The identities of the parameters of the last part, which `head_lr` is the rate of."""
    return {id(parameter) for parameter in parts_of(model)[-1].parameters()}


def parts_of(model: nn.Module) -> list[nn.Module]:
    """The children of a model that have weights, in order; a Sequential among them stands for its own children."""
    parts: list[nn.Module] = []
    for child in model.children():
        parts += parts_of(child) if isinstance(child, nn.Sequential) else [child]
    return [part for part in parts if any(True for _ in part.parameters())] or [model]


def some(names: Any) -> str:
    """The first few names."""
    listed = list(names)
    return f"{', '.join(listed[:3])}{f' and {len(listed) - 3} more' if len(listed) > 3 else ''}"
