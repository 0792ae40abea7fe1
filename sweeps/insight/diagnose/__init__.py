"""What a training suffered from: findings from its curves, and from what audit and preflight saw, the likeliest first.

Place in the flow: pure functions over Arrow tables of curves, a sweep's or anyone's, to `Finding`s; `sweeps diagnose`,
the report and `advise` take them. The rules are those of the playbook (symptom, condition, remedy); they stand in order
of precedence, because one fault shows several symptoms: what comes first explains what comes after it. A rule that
lacks its input is silent, and `Diagnosis.silent` says what it lacked.

Where a symptom begins stands in `thresholds`; `make bench NAME=diagnose` says how often the rules are right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sweeps.insight.diagnose.given import (
    came_loose,
    data,
    dead_units,
    first_loss,
    network,
    non_finite,
    not_learning,
    one_layer,
    rate_beyond,
    steep_first,
    steps_too_large,
    unscaled,
    vanishing,
)  # fmt: skip
from sweeps.insight.diagnose.levels import held_back, loss_misfit, noisy_batch, pulled_back, underfit
from sweeps.insight.diagnose.movement import creeping, decayed_early, held_high, oscillating, too_short, too_slow
from sweeps.insight.diagnose.notes import accuracy_misleads, overconfident, slow_starter
from sweeps.insight.diagnose.others import with_alike
from sweeps.insight.diagnose.rule import Rule
from sweeps.insight.diagnose.splits import by_heart, label_noise, labels, little_data, overfit
from sweeps.insight.findings import Finding
from sweeps.insight.runs import Lacking, Run


@dataclass(frozen=True)
class Diagnosis:
    """What a training suffered from."""

    run: Run
    findings: list[Finding]
    """The likeliest first, then what else shows alike, then what is only worth knowing. Of a healthy one no warning; of
    curves that a healthy one may have as well what they may mean, as worth knowing."""
    silent: dict[str, str]
    """By rule that lacked its input what that was."""
    suspected: bool = False
    """Whether the first finding is only what the curves may mean."""

    @property
    def warnings(self) -> list[Finding]:
        """The findings that cost quality."""
        return [one for one in self.findings if one.severity != "info"]

    @property
    def judged(self) -> bool:
        """Whether there was a loss to judge it by."""
        return self.run.has("train/loss") or self.run.has("val/loss")

    @property
    def likeliest(self) -> Finding | None:
        """The first warning, which explains the others; None of a healthy training."""
        return next(iter(self.warnings), None)


def diagnose(run: Run) -> Diagnosis:
    """Ask every rule. Nothing raises for what a training lacks."""
    silent: dict[str, str] = {}
    every = list(asked(RULES, run, silent))
    sure = [one for one in every if one.severity != "info"]
    found = with_alike(run, sure or every)
    return Diagnosis(run, [*found, *asked(NOTES, run, silent)], silent, suspected=bool(every) and not sure)


def asked(rules: Iterable[Rule], run: Run, silent: dict[str, str]) -> Iterator[Finding]:
    """What the rules find, each finding once; what rules lack is put into `silent`."""
    names = set()
    for rule in rules:
        try:
            with np.errstate(all="ignore"):  # of numbers beyond all measure
                one = rule(run)
        except Lacking as lacking:
            silent[rule.__name__] = str(lacking)
            continue
        if one is not None and one.finding not in names:
            names.add(one.finding)
            yield one


RULES: tuple[Rule, ...] = (
    data, network, first_loss, non_finite, unscaled, steep_first, one_layer, labels, noisy_batch, steps_too_large,
    came_loose, rate_beyond, vanishing, label_noise, held_back, loss_misfit, little_data, overfit, by_heart,
    oscillating, dead_units, pulled_back, held_high, decayed_early, creeping, too_slow, too_short, not_learning,
    underfit,
)  # fmt: skip
"""In order of precedence."""
NOTES: tuple[Rule, ...] = (overconfident, accuracy_misleads, slow_starter)
"""Those that do not warn."""

NOTHING_WRONG = "nothing is wrong that these rules know."
NO_LOSS = "there is neither a train/loss nor a val/loss in numbers"


def as_table(diagnoses: Iterable[Diagnosis]) -> pa.Table:
    """The findings as a table: trial, finding, severity, message; a row each, a trial's likeliest first."""
    rows = [(one.run.trial, found) for one in diagnoses for found in one.findings]
    return pa.table(
        {
            "trial": pa.array([trial for trial, _ in rows], pa.string()),
            **{
                name: pa.array([getattr(found, name) for _, found in rows], pa.string())
                for name in ("finding", "severity", "message")
            },
        }
    )


def as_text(diagnoses: Sequence[Diagnosis], *, whole: bool = False) -> str:
    """The findings as lines, the likeliest of each trial; `whole`: all of them, and which rules lacked what."""
    if not diagnoses:
        return "No trial has reported."
    lines = []
    for one in diagnoses:
        told = len(one.findings) if whole else int(one.suspected or bool(one.warnings))
        for place, found in enumerate(one.findings[:told]):
            lines.append(f"{one.run.trial if not place else '':<14} {found.finding:<20} {found.message}")
        if whole and not one.warnings:
            known = "no rule is sure that anything is wrong." if one.suspected else NOTHING_WRONG
            verdict = known if one.judged else f"nothing can be said: {NO_LOSS}."
            lines.append(f"{one.run.trial if not one.findings else '':<14} {verdict}")
        if whole and one.silent:
            lacking = ", ".join(f"{rule} ({lacked})" for rule, lacked in one.silent.items())
            lines.append(f"{'':<14} not asked, for what is lacking: {lacking}")
    if not whole:
        fine, blind = (sum(not one.warnings and one.judged is judged for one in diagnoses) for judged in (True, False))
        lines.append(f"{fine} of {len(diagnoses)} trials without a warning.")
        if blind:
            lines.append(f"Of {blind} nothing can be said: {NO_LOSS}.")
    return "\n".join(lines)
