"""Mixed precision: what a step computes in, and the scaler that keeps fp16 gradients from vanishing.

Place in the flow: `trainables.loop` runs the model and the loss under `autocast` and, for fp16 only, scales the loss.
bf16 has the exponent range of fp32 and needs no scaler.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which the model and the loss run; it does nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    context: AbstractContextManager[Any] = torch.autocast(device.type, dtype=PRECISIONS[precision])
    return context


def scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """A gradient scaler for fp16, None for the precisions that need none."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def capture(grad_scaler: torch.amp.GradScaler) -> torch.Tensor:
    """The scale and the steps since it last grew, as one tensor: of the same size whatever the numbers are."""
    state = grad_scaler.state_dict()
    return torch.tensor([state["scale"], state["_growth_tracker"]], dtype=torch.float64)


def restore(grad_scaler: torch.amp.GradScaler, saved: torch.Tensor) -> None:
    """Put a captured scale into a scaler."""
    scale, tracker = saved.tolist()
    grad_scaler.load_state_dict({**grad_scaler.state_dict(), "scale": scale, "_growth_tracker": int(tracker)})
