"""Optimizers by name, and their state as a checkpoint keeps it.

Place in the flow: `trainables.loop` builds one per trial. The fused implementations are used throughout: one kernel
for all parameters is 1.2-2x faster for the small models that sweeps are made of, on CPU too (one exception below).

A checkpoint keeps the per-parameter state (moments, step counts) and not the hyperparameters: those always come from
the config, so that a trial which goes on from a donor's state under a changed config (PBT) really trains with it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainables import shards
from trainables.contract import TrainableError
from trainables.warm_start import head

if TYPE_CHECKING:
    from trainables.hyperparameters import Hyperparameters

OPTIMIZERS = ("sgd", "adam", "adamw")
BETA1 = 0.9


def build(model: nn.Module, hyper: Hyperparameters) -> torch.optim.Optimizer:
    """The optimizer of a config over the model's trainable parameters, weight decay on matrices and kernels only.

    Each group has a `share`: what the learning rate is multiplied with for it, other than 1 for a head with its own.

    Parameters of at most one dimension are the norms' scales and shifts and the biases: decaying them costs fit and
    regularises nothing. Raises TrainableError when the model has nothing to train.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise TrainableError(
            f"model: {type(model).__name__} has no parameter that requires a gradient. Unfreeze at least one"
        )
    last = head(model) if hyper.head_lr is not None else set()
    groups = [
        {
            "params": [p for p in trainable if (p.ndim > 1) is decays and (id(p) in last) is own],
            "weight_decay": hyper.weight_decay if decays else 0.0,
            "share": hyper.head_lr / hyper.lr if own and hyper.head_lr is not None else 1.0,
        }
        for own in (False, True)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    if hyper.optimizer == "sgd":
        # torch's fused SGD allocates its momentum before it looks whether the scaler skips the step: a first step
        # that overflows in fp16, which is usual, leaves uninitialised memory as momentum (torch 2.13).
        # Nor has it a rule for sharded parameters.
        fused = hyper.precision != "fp16" and not any(map(shards.is_sharded, trainable))
        return torch.optim.SGD(groups, lr=hyper.lr, momentum=hyper.momentum, nesterov=hyper.nesterov, fused=fused)
    kind = torch.optim.Adam if hyper.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=hyper.lr, betas=(BETA1, hyper.beta2), fused=True)


def capture(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The per-parameter state under the optimizer's name; the tensors are live ones: `state.snapshot` copies them."""
    return {"name": _name(optimizer), "state": optimizer.state_dict()["state"]}


def restore(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Put a captured state into an optimizer built for the same model; its hyperparameters stay its own.

    Raises TrainableError when the state is another optimizer's.
    """
    if saved["name"] != _name(optimizer):
        raise TrainableError(
            f"config: optimizer is {_name(optimizer)}, but the state to go on from was saved by {saved['name']}. "
            "Keep the optimizer, or start the trial afresh"
        )
    # load_state_dict keeps references to the tensors it is given: without the copy, training on would change the
    # saved state under the feet of whoever else goes on from it.
    state = copy.deepcopy(saved["state"])
    for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, value in state.get(number, {}).items():
            state[number][name] = shards.like(parameter, value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _name(optimizer: torch.optim.Optimizer) -> str:
    return type(optimizer).__name__.lower()
