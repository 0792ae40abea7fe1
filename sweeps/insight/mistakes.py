"""What an error analysis says, in words, and the finding that follows from it.

Place in the flow: `confirm` journals both of the winner. Pure functions of what `trainables.error_analysis` found, as
the journal has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.insight.findings import Finding
from sweeps.insight.remedies import MOST_SMOOTHING, SMOOTHING
from sweeps.insight.thresholds import LIMITS, Thresholds


def in_words(found: Mapping[str, Any], limits: Thresholds = LIMITS) -> str:
    """The class, the pair of classes and the row where it errs most; and its calibration, where that is poor."""
    if not found["worst"]:
        return "its loss is none of single rows, so none can be said to have the highest"
    said = []
    if found["classes"] and (least := found["classes"][0])["recall"] < 1:
        said.append(f"class {least['label']} has the lowest recall, {least['recall']:.3g} of {least['rows']} rows")
    if found["pairs"]:
        pair = found["pairs"][0]
        said.append(
            f"the most frequent confusion is {pair['label']} taken for {pair['taken_for']}, in {pair['rows']} rows "
            f"({100 * pair['share']:.0f} % of that class)"
        )
    worst = found["worst"][0]
    what = f" ({worst['target']:.4g}, taken for {worst['predicted']:.4g})" if "target" in worst else ""
    said.append(f"the highest loss is {worst['loss']:.3g}, in row {worst['row']}{what}")
    if found["bias"] is not None:
        said.append(f"predictions are {abs(found['bias']):.3g} too {'high' if found['bias'] > 0 else 'low'} on average")
    if poor(found, limits):
        said.append(f"its probabilities mislead: {trust(found['calibration'])}")
    return "; ".join(said)


def poor(found: Mapping[str, Any], limits: Thresholds = LIMITS) -> bool:
    """Whether the probabilities are wrong by more than the limit, and to one side beyond chance: of few rows every
    calibration error is large."""
    seen = found["calibration"]
    return seen is not None and bool(seen["leaning"]) and seen["ece"] > limits.miscalibrated


def trust(seen: Mapping[str, Any]) -> str:
    """Confidence beside accuracy."""
    return (
        f"{seen['leaning']}, on average {seen['confidence']:.3g} sure and right in {seen['accuracy']:.3g} of the rows, "
        f"expected calibration error {seen['ece']:.2g}"
    )


def overconfidence(found: Mapping[str, Any], config: Mapping[str, Any], limits: Thresholds = LIMITS) -> Finding | None:
    """The finding that a model is surer than it is right; `config` is the one that it was trained with."""
    if not poor(found, limits) or found["calibration"]["leaning"] != "overconfident":
        return None
    smoothing = float(config.get("label_smoothing", 0.0))
    more = min(smoothing + SMOOTHING, MOST_SMOOTHING)
    mends = [f"train with label_smoothing {more:g} (it is {smoothing:g})"] if more > smoothing else []
    mends.append("divide the logits by a temperature fitted on validation rows")
    mend = f"Where probabilities are used, {' or '.join(mends)}; choose no config by it"
    evidence = {name: found["calibration"][name] for name in ("ece", "confidence", "accuracy")}
    return Finding("overconfident", "warn", f"{trust(found['calibration'])}. {mend}", evidence)
