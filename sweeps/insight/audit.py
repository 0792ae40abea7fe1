"""What the numbers of `trainables.audit` mean: findings on the data, the gravest first.

Place in the flow: pure functions from an audit to findings; the audit phase journals them, diagnosis takes them before
any curve, because no tuning mends data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweeps.insight.findings import MOST_NAMES, Finding, Severity, listed

FEW_ROWS = 10
"""Rows of a class below which it is named."""
UNEVEN, UNEVEN_BY_LUCK = 8.0, 1e-3
"""The most frequent class has so many times the rows of the rarest: imbalance, unless even classes are drawn so more
often than this: of few rows nearly all are."""
CONSTANT_SHARE = 0.5
"""Of the columns: above it a warning."""
DUPLICATE_SHARE = 0.05
LEAKED_SHARE = 0.01
"""Of a split's rows: above it exact copies block; a few are worth a look."""
NEARLY_LEAKED_SHARE = 0.05
"""Above it near copies are a warning: in small tables some rows are alike by chance."""
ALIKE = 2.0
"""Near copies across splits count beyond so many times those within train."""
LUCK = 4.0
"""So many standard errors that a column's mean and deviation of few rows lie apart by luck are none of the splits'."""
SHIFTED_SPREAD, SHIFTED_MEAN = 1.25, 0.5
"""A split whose usual column varies by this factor otherwise, or whose mean is so many deviations away, is another."""
KNOWN_SHARE = 0.5
"""Of the rows that are not of the most frequent class: classifiers that are right about fewer judge no label."""
CONFLICT_SHARE = 0.005
WRONG_SHARE = 0.03
"""Of the labels that were looked at: above it a warning; clean data have some hard rows."""
OUTLIER_SHARE = 0.01
ODD_SHARE = 0.05
"""Of a folder's images: above it those far from the usual size, blurred or distorted ones are a warning. What counts as
such, and as a bar, is told in `trainables.data.pictures`."""
BARRED_SHARE = 0.05
BLANK_SHARE = 0.01
"""Of a split's images: above it bars at the edges, or images of one value, are a warning."""
SCALE = 100.0
"""Inputs beyond this, or columns whose deviations, or whose mean and deviation, differ by this factor, are unscaled."""
ORDER = {"block": 0, "warn": 1, "info": 2}


def judge(audit: Mapping[str, Any]) -> list[Finding]:
    """The findings of an audit, one of each kind, the gravest first; `data` says what was looked at."""
    checks = (
        readable, unusable_rows, strange_labels, non_finite, constant_features, leakage, conflicting_labels,
        splits_differ, label_errors, imbalance, few_rows, duplicates, odd_sizes, image_modes, constant_borders,
        blank_images, outliers, unscaled_inputs,
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


def unusable_rows(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Rows without a target, files that are no images."""
    for finding, what in (("missing_targets", "rows without a target"), ("unreadable_images", "images that are none")):
        found = {split: faults[finding] for split, faults in audit.get("faults", {}).items() if finding in faults}
        if found:
            told = ", ".join(f"{split} {fault['rows']:,}" for split, fault in found.items())
            message = f"there are {what} ({told}). {first_told(found)}"
            yield Finding(finding, "block", message, {"splits": found})


def first_told(faults: Mapping[str, Mapping[str, Any]]) -> str:
    """What training would refuse data with, as a sentence."""
    message = next(iter(faults.values()))["messages"][0].removeprefix("data: ")
    return f"Training refuses the first: {message}" + ("" if message.endswith("?") else ".")


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
        told = []
        for split, (rows, _, examples, columns) in audit["non_finite"].items():
            most = listed([f"{column} in {count:,}" for column, count in columns.items()])
            told.append(f"{split}: {rows:,} rows, first {listed(examples)}; column {most}")
        faults = {
            split: found["non_finite_inputs"]
            for split, found in audit.get("faults", {}).items()
            if "non_finite_inputs" in found
        }
        mend = first_told(faults) if faults else "Fill them in, or drop such rows."
        message = f"there are missing or infinite numbers ({'; '.join(told)}). {mend}"
        evidence = {"splits": audit["non_finite"], "faults": faults}
        yield Finding("non_finite_inputs", "block", message, evidence)


def leakage(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Rows of other splits that train has."""
    shares = {
        split: (found["exact"] + found["near"]) / audit["splits"][split]["looked_at"]
        for split, found in audit["leakage"].items()
    }
    if not shares or all_alike(audit):
        return
    told = [
        f"{found['exact'] + found['near']:,} rows of {split} ({shares[split]:.1%}; {found['exact']:,} of them exactly) "
        f"are in train, such as {split} {found['examples'][0][0]} and train {found['examples'][0][1]}"
        for split, found in audit["leakage"].items()
    ]
    exact = max(found["exact"] / audit["splits"][split]["looked_at"] for split, found in audit["leakage"].items())
    # Where training rows are nearly each other's copies as often, that is what such rows are like.
    own = audit["duplicates"].get("near", 0) / audit["splits"]["train"]["looked_at"]
    near = max(shares.values()) > NEARLY_LEAKED_SHARE + ALIKE * own
    severity: Severity = "block" if exact > LEAKED_SHARE else "warn" if near else "info"
    message = f"{'; '.join(told)}: what is measured there is memory. Drop them from one side, or split by group."
    yield Finding("leakage", severity, message, {"splits": audit["leakage"]})


def all_alike(audit: Mapping[str, Any]) -> bool:
    """Whether all training rows are the same."""
    looked = audit["splits"].get("train", {}).get("looked_at", 0)
    copies = bool(audit["duplicates"].get("exact", 0) == looked - 1 and looked > FEW_ROWS)
    return copies or bool(0 < audit["columns"] == len(audit["constant"]))


def constant_features(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Columns with one value."""
    constant, columns = audit["constant"], audit["columns"]
    if all_alike(audit) and len(constant) < columns:  # of words no columns are told
        message = "all training rows are the same. Nothing can be learned from them. Is the right file read?"
        yield Finding("constant_features", "block", message, {"features": [], "share": 1.0})
        return
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
        rows = min(audit["splits"][name]["looked_at"] for name in ("train", split))
        apart = abs(math.log(spread)) if spread > 0 else math.inf
        luck = LUCK / math.sqrt(rows)
        if apart > max(math.log(SHIFTED_SPREAD), luck / math.sqrt(2)) or shift["mean"] > max(SHIFTED_MEAN, luck):
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
    judged = found["judged"] and know(audit, found["agreement"])
    if not found["suspected"] or not judged:
        if not judged:
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


def know(audit: Mapping[str, Any], agreement: float) -> bool:
    """Whether quick classifiers know more than which class is frequent: else they suspect every row of the others."""
    classes = audit["classes"].get("train", {})
    most = float(max(classes.values(), default=0) / max(sum(classes.values()), 1))
    return agreement - most > KNOWN_SHARE * (1 - most)


def imbalance(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Classes with far more rows than others; or one only."""
    classes = audit["classes"].get("train", {})
    if len(classes) < 2:
        for label, rows in classes.items():
            message = (
                f"all {rows:,} training rows are of class {label}: there is nothing to learn. Are these the labels?"
            )
            yield Finding("imbalance", "block", message, {"most": rows, "fewest": rows, "ratio": 1.0})
        return
    rarest, most = min(classes, key=classes.__getitem__), max(classes, key=classes.__getitem__)
    ratio = classes[most] / max(classes[rarest], 1)
    if ratio >= UNEVEN and not by_luck(list(classes.values())):
        message = (
            f"class {most} has {classes[most]:,} training rows, class {rarest} {classes[rarest]:,}. "
            "Set class_weights: balanced, gather more of the rare ones, and go by a metric that counts classes alike."
        )
        yield Finding("imbalance", "warn", message, {"most": classes[most], "fewest": classes[rarest], "ratio": ratio})


def by_luck(counts: Sequence[int]) -> bool:
    """Whether rows that are drawn from even classes are as uneven often enough."""
    from scipy.stats import chisquare

    return bool(chisquare(counts).pvalue > UNEVEN_BY_LUCK)


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


def odd_sizes(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Files of images far from the usual size or shape, and those that suffer when they are brought to size."""
    refused = {split: found["odd_sizes"] for split, found in audit.get("faults", {}).items() if "odd_sizes" in found}
    if refused:
        told = ", ".join(f"{split} {fault['rows']:,}" for split, fault in refused.items())
        message = f"there are images of another size than most ({told}), and none is given. {first_told(refused)}"
        yield Finding("odd_sizes", "block", message, {"splits": audit["sizes"], "faults": refused})
        return
    parts, shares = [], [0.0]
    for split, sizes in audit.get("sizes", {}).items():
        usual = " x ".join(map(str, sizes["usual"]))
        for kind, what in (
            ("odd", f"are far from the usual {usual} (height x width)"),
            ("enlarged", "are blurred, enlarged more than 2 times"),
            ("stretched", f"are distorted, {' x '.join(map(str, sizes['size']))} being of another shape"),
        ):
            if rows := sizes[kind]["rows"]:
                shares.append(rows / sizes["rows"])
                file, height, width = sizes[kind]["examples"][0]
                parts.append(f"{rows:,} ({shares[-1]:.1%}) of {split} {what}, such as {file} of {height} x {width}")
    if parts:
        severity: Severity = "warn" if max(shares) > ODD_SHARE else "info"
        message = (
            f"of the images {'; '.join(parts)}. Look at them; drop what is no picture of its class, cut or pad the "
            "others to one shape, and bring all to a size that most of them have at least."
        )
        yield Finding("odd_sizes", severity, message, {"splits": audit["sizes"]})


def image_modes(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Files of images some of which have other channels than most."""
    modes: dict[str, int] = {}
    for sizes in audit.get("sizes", {}).values():
        for mode, rows in sizes["modes"].items():
            modes[mode] = modes.get(mode, 0) + rows
    if len(modes) > 1:
        told = ", ".join(f"{rows:,} {mode}" for mode, rows in sorted(modes.items(), key=lambda item: -item[1]))
        message = (
            f"the images are stored in different ways ({told}) and all read alike; what is see-through loses its "
            "mask, and grey ones among coloured ones may give their class away. Store all in one way."
        )
        yield Finding("image_modes", "info", message, {"modes": modes})


def constant_borders(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Images with bars at their edges."""
    yield from framed(
        audit,
        "barred",
        "constant_borders",
        "have bars of one value at their edges, as of films or padding",
        "Cut the bars off, or pad all alike: whether they are there may tell a class.",
        BARRED_SHARE,
    )


def blank_images(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Images with one value everywhere."""
    mend = "Nothing is to be seen on them: drop them, or see why they were not read."
    yield from framed(audit, "blank", "blank_images", "are of one value everywhere", mend, BLANK_SHARE)


def framed(audit: Mapping[str, Any], kind: str, finding: str, what: str, mend: str, bound: float) -> Iterator[Finding]:
    """Images of a kind; a warning above a share of a split."""
    found = {split: frames[kind] for split, frames in audit.get("frames", {}).items() if frames[kind]["rows"]}
    if found:
        shares = {split: frame["rows"] / audit["splits"][split]["looked_at"] for split, frame in found.items()}
        told = ", ".join(
            f"{frame['rows']:,} ({shares[split]:.1%}) of {split}, such as row {frame['examples'][0]}"
            for split, frame in found.items()
        )
        severity: Severity = "warn" if max(shares.values()) > bound else "info"
        yield Finding(finding, severity, f"of the images {told}, {what}. {mend}", {"splits": found})


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
