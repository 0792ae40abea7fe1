"""What the numbers of `trainables.audit` mean: findings on the data, the gravest first.

Place in the flow: pure functions from an audit to findings; the audit phase journals them, diagnosis takes them before
any curve, because no tuning mends data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sweeps.insight.findings import MOST_NAMES, Finding, Severity, listed

FEW_ROWS = 10
"""Rows of a class below which it is named."""
UNEVEN = 8.0
"""The most frequent class has so many times the rows of the rarest: imbalance."""
CONSTANT_SHARE = 0.5
"""Of the columns: above it a warning."""
DUPLICATE_SHARE = 0.05
LEAKED_SHARE = 0.01
"""Of a split's rows: above it exact copies block; a few are worth a look."""
NEARLY_LEAKED_SHARE = 0.05
"""Above it near copies are a warning: in small tables some rows are alike by chance."""
SHIFTED_SPREAD, SHIFTED_MEAN = 1.25, 0.5
"""A split whose usual column varies by this factor otherwise, or whose mean is so many deviations away, is another."""
CONFLICT_SHARE = 0.005
WRONG_SHARE = 0.03
"""Of the labels that were looked at: above it a warning; clean data have some hard rows."""
OUTLIER_SHARE = 0.01
SCALE = 100.0
"""Inputs beyond this, or columns whose deviations, or whose mean and deviation, differ by this factor, are unscaled."""
ORDER = {"block": 0, "warn": 1, "info": 2}


def judge(audit: Mapping[str, Any]) -> list[Finding]:
    """The findings of an audit, one of each kind, the gravest first; `data` says what was looked at."""
    checks = (
        readable, strange_labels, non_finite, constant_features, leakage, conflicting_labels, splits_differ,
        label_errors, imbalance, few_rows, duplicates, outliers, unscaled_inputs,
    )  # fmt: skip
    found = [finding for check in checks for finding in check(audit)]
    return [seen(audit), *sorted(found, key=lambda finding: ORDER[finding.severity])]


def seen(audit: Mapping[str, Any]) -> Finding:
    """What was looked at."""
    parts = []
    for name, split in audit["splits"].items():
        shape = " x ".join(map(str, split["shape"])) or "1"
        looked = "" if split["looked_at"] == split["rows"] else f", {split['looked_at']:,} of them looked at"
        parts.append(f"{name} {split['rows']:,} rows of {shape} {split['dtype']}{looked}")
    classes = audit["classes"].get("train")
    kinds = f"; {len(classes)} classes" if classes else ""
    return Finding("data", "info", f"{', '.join(parts) or 'nothing could be read'}{kinds}.", {"audit": dict(audit)})


def readable(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Splits that could not be looked at."""
    if audit["unreadable"]:
        names = ", ".join(audit["unreadable"])
        message = f"the rows of {names} are no pairs of numbers that can be fetched by index, and were not looked at."
        yield Finding("not_audited", "info", message, {"splits": audit["unreadable"]})


def strange_labels(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Labels that cannot be."""
    for split, labels in audit["strange_labels"].items():
        negative = [label for label in labels if label < 0]
        what = "below 0" if negative else "that train has no row of"
        rows = sum(audit["classes"][split][str(label)] for label in labels)
        message = (
            f"{split} has {rows:,} rows with labels {what}: {listed(labels)}. Mend or drop them, or split by class."
        )
        yield Finding("labels_out_of_range", "block", message, {"split": split, "labels": labels, "rows": rows})
        return


def non_finite(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Numbers that are none."""
    if audit["non_finite"]:
        told = [
            f"{split}: {rows:,} rows, first {listed(examples)}"
            for split, (rows, _, examples) in audit["non_finite"].items()
        ]
        message = f"there are missing or infinite numbers ({'; '.join(told)}). Fill them in, or drop such rows."
        yield Finding("non_finite_inputs", "block", message, {"splits": audit["non_finite"]})


def leakage(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Rows of other splits that train has."""
    shares = {
        split: (found["exact"] + found["near"]) / audit["splits"][split]["looked_at"]
        for split, found in audit["leakage"].items()
    }
    if not shares or len(audit["constant"]) == audit["columns"]:  # rows that are all alike
        return
    told = [
        f"{found['exact'] + found['near']:,} rows of {split} ({shares[split]:.1%}; {found['exact']:,} of them exactly) "
        f"are in train, such as {split} {found['examples'][0][0]} and train {found['examples'][0][1]}"
        for split, found in audit["leakage"].items()
    ]
    exact = max(found["exact"] / audit["splits"][split]["looked_at"] for split, found in audit["leakage"].items())
    near = max(shares.values()) > NEARLY_LEAKED_SHARE
    severity: Severity = "block" if exact > LEAKED_SHARE else "warn" if near else "info"
    message = f"{'; '.join(told)}: what is measured there is memory. Drop them from one side, or split by group."
    yield Finding("leakage", severity, message, {"splits": audit["leakage"]})


def constant_features(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Columns with one value."""
    constant, columns = audit["constant"], audit["columns"]
    if not constant:
        return
    share = len(constant) / columns
    severity: Severity = "block" if share == 1 else "warn" if share > CONSTANT_SHARE else "info"
    message = f"{len(constant):,} of {columns:,} features have one value in all training rows: {listed(constant)}. "
    mend = "Nothing can be learned from them. Is the right file read?" if share == 1 else "Drop them."
    yield Finding("constant_features", severity, message + mend, {"features": constant[:MOST_NAMES], "share": share})


def conflicting_labels(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Equal rows with different labels."""
    count = audit["duplicates"].get("conflicting", 0)
    if count:
        share = count / audit["splits"]["train"]["looked_at"]
        severity: Severity = "warn" if share > CONFLICT_SHARE else "info"
        groups = f"{count:,} groups of equal training rows have different labels"
        message = f"{groups}: no network can have them all right. Mend the labels, or keep one row of each group."
        yield Finding("conflicting_labels", severity, message, {"groups": count})


def splits_differ(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Splits whose inputs are spread otherwise than train's."""
    for split, shift in audit["shifts"].items():
        spread = shift["deviation"]
        if not 1 / SHIFTED_SPREAD < spread < SHIFTED_SPREAD or shift["mean"] > SHIFTED_MEAN:
            message = (
                f"the usual column of {split} varies {spread:.2f} times as much as in train, and its mean lies "
                f"{shift['mean']:.2f} of train's deviations away: the splits are of different sources, or prepared "
                "differently. Prepare both alike, and split at random or by what is to be generalised over."
            )
            yield Finding("splits_differ", "warn", message, {"split": split, **shift})
            return


def label_errors(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Labels that are probably wrong."""
    found = audit["label_errors"]
    if not found:
        return
    if not found["suspected"]:
        if not found["judged"]:
            message = (
                f"quick classifiers agree with {found['agreement']:.0%} of the labels only: too few to judge them."
            )
            yield Finding("labels_not_judged", "info", message, dict(found))
        return
    share = found["suspected"] / found["looked_at"]
    row, label, likelier, probability = found["examples"][0]
    message = (
        f"{found['suspected']:,} of {found['looked_at']:,} training labels that were looked at ({share:.1%}) are "
        f"probably wrong, such as row {row}: {label}, likelier {likelier} (probability {probability:.2f}). "
        "Look at them, mend or drop them; label smoothing makes up for a few."
    )
    severity: Severity = "warn" if share > WRONG_SHARE else "info"
    yield Finding("label_errors", severity, message, dict(found))


def imbalance(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Classes with far more rows than others."""
    classes = audit["classes"].get("train", {})
    if len(classes) < 2:
        return
    rarest, most = min(classes, key=classes.__getitem__), max(classes, key=classes.__getitem__)
    ratio = classes[most] / classes[rarest]
    if ratio >= UNEVEN:
        message = (
            f"class {most} has {classes[most]:,} training rows, class {rarest} {classes[rarest]:,}. "
            "Set class_weights: balanced, gather more of the rare ones, and go by a metric that counts classes alike."
        )
        yield Finding("imbalance", "warn", message, {"most": classes[most], "fewest": classes[rarest], "ratio": ratio})


def few_rows(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Classes with few rows."""
    few = {label: count for label, count in audit["classes"].get("train", {}).items() if count < FEW_ROWS}
    if few:
        message = (
            f"{len(few):,} classes have fewer than {FEW_ROWS} training rows: {listed(list(few))}. Gather more, merge "
            "them, or warm-start from a network that knows such rows."
        )
        yield Finding("too_little_data", "warn", message, {"classes": few})


def duplicates(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Training rows that are there more than once."""
    found = audit["duplicates"]
    rows = found.get("exact", 0) + found.get("near", 0)
    if rows:
        share = rows / audit["splits"]["train"]["looked_at"]
        severity: Severity = "warn" if share > DUPLICATE_SHARE else "info"
        message = (
            f"{rows:,} training rows ({share:.1%}) are copies of others, {found['exact']:,} of them exact, such as "
            f"{listed(found['examples'][0])}. They count more than others; drop them unless that is meant."
        )
        yield Finding("duplicates", severity, message, dict(found))


def outliers(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Numbers far from all others."""
    found = audit["outliers"]
    if found:
        share = found["rows"] / audit["splits"]["train"]["looked_at"]
        severity: Severity = "warn" if share > OUTLIER_SHARE else "info"
        row, column, value = found["examples"][0]
        message = (
            f"{found['rows']:,} training rows ({share:.1%}) have a number far beyond its column's middle half, such as "
            f"{value:.4g} in column {column} of row {row}. An error of a unit? Mend, clip or transform."
        )
        yield Finding("outliers", severity, message, dict(found))


def unscaled_inputs(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Inputs of a scale that networks do not expect, unless theirs standardises them."""
    if audit["words"] or not audit["columns"]:
        return
    reach = max(abs(audit["lowest"]), abs(audit["highest"]))
    smallest, largest = audit["deviations"]
    uneven = largest / smallest if smallest else 1.0
    if reach > SCALE or uneven > SCALE or audit["mean"] > SCALE:
        message = (
            f"inputs are from {audit['lowest']:.4g} to {audit['highest']:.4g}, and columns vary by {smallest:.3g} to "
            f"{largest:.3g}. Standardise by the training rows, unless the network does."
        )
        evidence = {"lowest": audit["lowest"], "highest": audit["highest"], "deviations": audit["deviations"]}
        yield Finding("unscaled_inputs", "info", message, evidence)
