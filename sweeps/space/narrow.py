"""Narrowing on evidence: the space of the next phase from the ranked configs of one fidelity.

A side of a range is cut to the best quarter of the trials plus a margin; widened instead where good points lie at its
edge (playbook: edge_of_space); a value of a choice goes when none of the best has it and chance hardly explains that.
A parameter that does not matter has its best values spread over the whole range, and so keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sweeps.space.domains import Choice, Constant, Domain, Float, Range, show
from sweeps.space.space import Space

MIN_TRIALS = 8
"""Fewer comparable trials than this are no evidence: the space stays."""
MARGIN = 0.1
"""Kept beyond the outermost good point, as a fraction of the old width."""
EDGE = 0.05
"""A good point within this fraction of the width lies at the edge; two of the best five widen that side."""
WIDEN = 0.25
MIN_WIDTH = 0.2
SPREAD = 0.8
"""A cut that leaves more than this of the width is not worth the name: the range stays."""
CHANCE = 0.1
"""A value of a choice goes when at most this probable to miss the best by luck (hypergeometric)."""


Side = Literal["low", "high"]
Action = Literal["narrowed", "widened", "kept"]


class Change(BaseModel):
    """What became of one parameter and why; the domains in words, for the report and the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameter: str
    action: Action
    before: str
    after: str
    why: str


def narrow(space: Space, ranked: Sequence[Mapping[str, Any]]) -> tuple[Space, list[Change]]:
    """The narrowed space and a Change for each searched parameter.

    `ranked` are configs of one fidelity, best first. Raises nothing: too little evidence keeps a range and says so.
    """
    if len(ranked) < MIN_TRIALS:
        why = f"{len(ranked)} comparable trials; {MIN_TRIALS} are needed"
        return space, [kept(name, space[name], why) for name in space.searched]
    best = max(4, round(len(ranked) / 4))
    changed: dict[str, Domain] = {}
    changes: list[Change] = []
    for name in space.searched:
        domain = space[name]
        having = [config for config in ranked if name in config]
        top = [config[name] for config in ranked[:best] if name in config]
        if len(top) < min(4, best):
            changes.append(kept(name, domain, f"only {len(top)} of the best {best} have it"))
            continue
        if isinstance(domain, Choice):
            after, action, why = narrow_choice(domain, [config[name] for config in having], top)
        elif isinstance(domain, Range):
            after, action, why = narrow_range(domain, top)
        else:
            raise TypeError(f"no rule narrows a {type(domain).__name__}")
        changed[name] = after
        changes.append(Change(parameter=name, action=action, before=str(domain), after=str(after), why=why))
    narrowed = space.replace(changed)
    gone = [c for c in changes if c.parameter not in narrowed]
    for change in gone:  # its parent lost the value that it depends on
        changes[changes.index(change)] = change.model_copy(
            update={"action": "narrowed", "after": "gone", "why": "the value that it depends on was dropped"}
        )
    return narrowed, changes


def kept(name: str, domain: Domain, why: str) -> Change:
    """The Change that says a parameter stays as it is."""
    return Change(parameter=name, action="kept", before=str(domain), after=str(domain), why=why)


def narrow_choice(domain: Choice, tried: Sequence[Any], top: Sequence[Any]) -> tuple[Domain, Action, str]:
    """Drop the values that are missing among the best beyond luck."""
    gone = {}
    for value in domain.choice:
        times = sum(v == value for v in tried)
        luck = comb(len(tried) - times, len(top)) / comb(len(tried), len(top))
        if times and value not in top and luck <= CHANCE:
            gone[value] = f"{show(value)}: tried {times} times, none of the best {len(top)} (by luck: {luck:.0%})"
    left = tuple(value for value in domain.choice if value not in gone)
    if not gone or not left:
        counts = ", ".join(f"{show(v)} {sum(t == v for t in top)}" for v in domain.choice)
        return domain, "kept", f"the best {len(top)}: {counts}"
    why = "; ".join(gone.values())
    if len(left) == 1:
        return Constant(constant=left[0], when=domain.when, source=domain.source), "narrowed", why
    return domain.model_copy(update={"choice": left}), "narrowed", why


def edge_of(domain: Range, values: Sequence[Any]) -> tuple[Side | None, int]:
    """At which edge of a range good values lie, best first, and how many of the best five do; None: at none.

    0 beside a range (`or_zero`) lies at none.
    """
    plain = domain.model_copy(update={"or_zero": False}) if isinstance(domain, Float) else domain
    points = [u for u in (plain.encode(v) for v in values) if u is not None][:5]
    first, last = plain.decode(0.0), plain.decode(1.0)  # of few values the outermost is the edge, however wide its bin
    at_low = sum(u <= EDGE or plain.decode(u) == first for u in points)
    at_high = sum(u >= 1 - EDGE or plain.decode(u) == last for u in points)
    if at_low >= 2:
        return "low", at_low
    return ("high", at_high) if at_high >= 2 else (None, 0)


def narrow_range(domain: Range, top: Sequence[Any]) -> tuple[Domain, Action, str]:
    """Cut or widen each side of a range by where the best values lie in it."""
    zeros = [v for v in top if v == 0] if isinstance(domain, Float) and domain.or_zero else []
    values = [v for v in top if v != 0] if zeros else list(top)
    if len(values) < 4:
        return domain, "kept", f"{len(zeros)} of the best {len(top)} are 0"
    plain = domain.model_copy(update={"or_zero": False}) if isinstance(domain, Float) else domain
    points = [u for u in (plain.encode(v) for v in values) if u is not None]
    if not points:
        return domain, "kept", "the best lie outside"
    low, high = min(points), max(points)
    seen = f"the best {len(values)} lie in {show(min(values))} … {show(max(values))}"
    widen, at_edge = edge_of(domain, values)
    start, end = max(low - MARGIN, 0.0), min(high + MARGIN, 1.0)
    if end - start < MIN_WIDTH:
        middle = min(max((start + end) / 2, MIN_WIDTH / 2), 1 - MIN_WIDTH / 2)
        start, end = middle - MIN_WIDTH / 2, middle + MIN_WIDTH / 2
    narrowed: Domain = domain
    if end - start <= SPREAD:
        narrowed = domain.narrowed(start, end)
    if widen:
        widened = narrowed.widened(widen, WIDEN)
        if widened != narrowed:
            return (
                widened,
                "widened",
                f"{seen}; {at_edge} of the best 5 at the {widen} edge: that side is widened",
            )
    if narrowed == domain:
        return domain, "kept", f"{seen}: spread over {end - start:.0%} of the range"
    return narrowed, "narrowed", seen
