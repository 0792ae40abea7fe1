"""What the phases share: the line that opens one, and the fidelity of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeps.engine import Engine
from sweeps.insight.curves import Ranking
from sweeps.space import Change, Space
from sweeps.spec import SearchPhase


def open_phase(
    engine: Engine,
    name: str,
    kind: str,
    space: Space,
    trials: int,
    changes: Sequence[Change] = (),
    ranking: Ranking | None = None,
) -> Space:
    """Write the phase's line: its space, what changed on entering it, and the comparison that rests on.

    A phase that an earlier driver opened keeps what that one wrote; the line says that it goes on, or that it is to
    have more trials. Returns the phase's space.
    """
    known = engine.record.history.phases.get(name)
    if known and known.status == "FINISHED" and known.trials >= trials:
        return known.space
    comparison: dict[str, Any] | None = None
    if ranking is not None:
        comparison = {
            "phase": ranking.trials[0].phase, "epoch": ranking.epoch, "data_fraction": ranking.data_fraction,
            "trials": len(ranking.trials),
        }  # fmt: skip
    if known:
        space, changes, comparison = known.space, known.changes, known.comparison
    engine.record.write(
        "phase", phase=name, phase_kind=kind, space=space.model_dump(mode="json", by_alias=True),
        changes=[change.model_dump(mode="json") for change in changes], comparison=comparison, trials=trials,
    )  # fmt: skip
    return space


def fidelity(phase: SearchPhase) -> dict[str, Any]:
    """Epochs and data fraction of a search phase's trials."""
    return {"epochs": phase.epochs, "data_fraction": phase.data_fraction}
