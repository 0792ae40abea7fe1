"""Where the winner errs, for the report: its classes, pairs and rows as words, its pictures, and its calibration drawn.

All of it is in the evidence of the finding `errors`, which is what `trainables.error_analysis` found.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from sweeps.history import History
from sweeps.report import words
from sweeps.report.style import TRIAL_COLOURS, styled

Row = dict[str, Any]
ROWS = {
    "worst": "Rows with the highest loss",
    "confident": "Rows that are wrong and most surely so",
    "unsure": "Rows whose two likeliest classes are closest",
}
"""The tables of rows, and their titles."""
COLUMNS = {
    "row": "row", "loss": "loss", "target": "is", "predicted": "taken for", "probability": "with probability",
    "second": "or for", "second_probability": "with probability",
}  # fmt: skip


def evidence(history: History) -> tuple[str, Row] | None:
    """The newest winner, and where it errs; None before that was looked at."""
    lines = [line for line in history.findings if line["finding"] == "errors"]
    return (lines[-1]["trial"], lines[-1]["evidence"]) if lines else None


def errors(history: History) -> Row | None:
    """Where the newest winner errs: classes, pairs, rows with their pictures; None before that was looked at."""
    looked = evidence(history)
    if looked is None:
        return None
    trial, found = looked
    pictures = {picture["row"]: picture["png"] for picture in found["pictures"]}

    def shown(rows: list[Row]) -> list[Row]:
        return [{name: words.number(value) for name, value in row.items()} for row in rows]

    tables = [
        {
            "title": title,
            "names": [COLUMNS[name] for name in found[kind][0]],
            "pictures": any(row["row"] in pictures for row in found[kind]),
            "rows": [
                {"cells": [words.number(value) for value in row.values()], "png": pictures.get(row["row"], "")}
                for row in found[kind]
            ],
        }
        for kind, title in ROWS.items()
        if found[kind]
    ]
    return {
        "trial": trial, "rows": found["rows"], "classes": shown(found["classes"]),
        "pairs": [{**row, "share": f"{100 * row['share']:.0f} %"} for row in found["pairs"]],
        "tables": tables, "trust": trust(found["calibration"]), "bias": bias(found["bias"]),
    }  # fmt: skip


def trust(seen: Row | None) -> str:
    """How far its probabilities can be trusted, in a sentence; empty where it has none."""
    if seen is None:
        return ""
    leaning = f"it is {seen['leaning']}" if seen["leaning"] else "chance explains the difference"
    return (
        f"It is on average {words.number(seen['confidence'])} sure of its class, and right in "
        f"{words.number(seen['accuracy'])} of the rows: {leaning}. Expected calibration error "
        f"{words.number(seen['ece'])}."
    )


def bias(value: float | None) -> str:
    """By how much its predictions are too high or too low; empty where it predicts no numbers."""
    if value is None:
        return ""
    return f"Its predictions are {words.number(abs(value))} too {'high' if value > 0 else 'low'} on average."


@styled
def calibration(history: History) -> Figure | None:
    """The winner's accuracy against its confidence in bins, beside the line on which they agree; and the bins' rows."""
    looked = evidence(history)
    seen = looked[1]["calibration"] if looked else None
    if seen is None:
        return None
    bins = seen["bins"]
    left, width = [one["low"] for one in bins], [one["high"] - one["low"] for one in bins]
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.bar(left, [b["accuracy"] for b in bins], width, align="edge", color=TRIAL_COLOURS[4], alpha=0.6)
    above.plot([0, 1], [0, 1], "--", color="#555555", lw=1, label="as often right as sure")
    above.plot(
        [b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", color=TRIAL_COLOURS[0], ms=5, lw=1.4,
        label="validation rows, in bins",
    )  # fmt: skip
    above.set_ylim(0, 1.03)
    above.set_ylabel("share that is right")
    above.set_title(f"Expected calibration error {words.number(seen['ece'])}")
    below.bar(left, [b["rows"] for b in bins], width, align="edge", color="#A0A0A0")
    below.set_xlim(0, 1)
    below.set_ylabel("rows")
    below.set_xlabel("probability of the likeliest class")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
