"""What the phases share: the line that opens one, and the fidelity of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeps.engine import Engine
from sweeps.insight.curves import Ranking
from sweeps.space import Change, Domain, Float, Space
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
            "phase": ranking.trials[0].phase, "epoch": ranking.epoch, **ranking.data, "trials": len(ranking.trials),
        }  # fmt: skip
    if known:
        space, changes, comparison = known.space, known.changes, known.comparison
    engine.record.write(
        "phase", phase=name, phase_kind=kind, space=space.model_dump(mode="json", by_alias=True),
        changes=[change.model_dump(mode="json") for change in changes], comparison=comparison, trials=trials,
    )  # fmt: skip
    return space


LR_MARGIN = 3.0
"""The range of the learning rate goes so many times beyond what the range test found on the baseline."""


def cut(engine: Engine) -> tuple[Space, list[Change]]:
    """The spec's space with the learning rate cut to what preflight's range tests found, and the changes.

    A rate of all optimizers goes from the lowest to the highest of their ranges; one of a single optimizer (`sgd.lr`)
    by its own. One whose test found nothing keeps its range.
    """
    space = engine.spec.space
    tested = [line["evidence"] for line in engine.record.history.findings if line["finding"] == "lr_range"]
    ranges = {test["optimizer"]: None if test["low"] is None else (test["low"], test["high"]) for test in tested}
    changed: dict[str, Domain] = {}
    changes: list[Change] = []
    for name in space.searched:
        optimizer, _, short = name.rpartition(".")
        domain = space[name]
        spans = [span for known, span in ranges.items() if not optimizer or known == optimizer]
        found = [span for span in spans if span is not None]
        if short != "lr" or not isinstance(domain, Float) or not found or len(found) < len(spans):
            continue
        low, high = min(span[0] for span in found), max(span[1] for span in found)
        start, end = max(low / LR_MARGIN, domain.span[0]), min(high * LR_MARGIN, domain.span[1])
        if not start < end or (start, end) == domain.span:
            continue
        changed[name] = domain.model_copy(update={"range": (start, end)})
        why = f"preflight's range test: {low:.2g} … {high:.2g}, and {LR_MARGIN:g} times beyond"
        changes.append(Change(parameter=name, action="narrowed", before=str(domain), after=str(changed[name]), why=why))
    return space.replace(changed), changes


def fidelity(phase: SearchPhase) -> dict[str, Any]:
    """Epochs, data fraction and, where they are fewer, classes of a search phase's trials."""
    fewer = {} if phase.classes is None else {"classes": phase.classes}
    return {"epochs": phase.epochs, "data_fraction": phase.data_fraction, **fewer}
