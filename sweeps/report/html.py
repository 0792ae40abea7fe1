"""The report: one HTML file that explains the sweep to someone who was not there, and needs nothing beside it.

Figures are embedded, there is no script and no address to fetch, so that it can be mailed, archived and printed.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sweeps.errors import StorageError
from sweeps.history import History
from sweeps.report import diagnosis, figures, mistakes, tables, words
from sweeps.report.outcome import cost, outcome
from sweeps.storage import Folder, RemotePath, at_hand, first_words

CAPTIONS = {
    "lr_range": "The loss as the learning rate rose step by step; the shaded range is searched, with a margin.",
    "curves": "Loss and metric of the best trials, and of the baseline where it ran at their fidelity. Train dashed.",
    "progress": "The best value of each phase against what had been spent. Lines of different fidelity do not compare.",
    "parameters": "Each searched parameter against the metric. Points of one colour are of one fidelity.",
    "population": "Grey: all members; blue: the states that the winner's came from, and by which schedule.",
    "confirm": "Each config under the same seeds.",
    "calibration": "How sure the winner is of validation rows, and how often it is right. Below the line: too sure.",
}
STATES = {
    "RUNNING": "Unfinished: the journal has no end. The sweep is still running, or its driver was killed.",
    "FINISHED": "",
}


def write(history: History, folder: Folder) -> Path:
    """Write `report.html` and the figures it embeds into the sweep's folder; the page's path on this machine.

    Of a remote sweep the page goes to its storage as well. Works at any moment of a sweep and leaves out what is not
    there yet. Raises StorageError for an empty journal, and when it cannot be written.
    """
    here = at_hand(folder)
    page = here / "report.html"
    words.spec_of(history)
    try:
        here.mkdir(parents=True, exist_ok=True)
        unfinished = page.with_suffix(".unfinished")
        unfinished.write_text(render(history, figures.write(history, here)), encoding="utf-8")
        unfinished.replace(page)
        if isinstance(folder, RemotePath):
            (folder / "report.html").write_bytes(page.read_bytes())
    except OSError as error:
        why = error.strerror or first_words(error)
        mend = "Free space or mend it, then `sweeps report`"
        raise StorageError(f"report: cannot write {page}: {why}. {mend}.") from None
    return page


def render(history: History, pictures: list[Path]) -> str:
    """The page, with the given PNGs embedded under their captions."""
    environment = Environment(
        loader=PackageLoader("sweeps.report", "."),
        autoescape=True,  # whatever the template's name: configs and messages are anyone's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(context(history, pictures))


def context(history: History, pictures: list[Path]) -> dict[str, Any]:
    """Everything that the template shows."""
    spec, header, spent = words.spec_of(history), history.header, cost(history)
    began = min([header.get("began", header["at"]), *(line["at"] for line in history.plans[:1])])
    return {
        "name": history.name,
        "status": history.status,
        "state": STATES.get(history.status, (history.end or {}).get("reason", "")),
        "began": words.moment(began),
        "ended": words.moment(history.end["at"]) if history.end else None,
        "metric": spec.metric,
        "direction": "lower is better" if spec.mode == "min" else "higher is better",
        "outcome": outcome(history),
        "arms": tables.arms(history),
        "configs": tables.configs(history),
        "schedule": tables.schedule(history),
        "figures": [
            {"name": p.stem, "caption": CAPTIONS[p.stem], "png": base64.b64encode(p.read_bytes()).decode()}
            for p in pictures
        ],
        "errors": mistakes.errors(history),
        "batches": tables.batches(history),
        "ranges": tables.ranges(history),
        "plan": tables.plan(history),
        "basis": [f"{words.moment(line['at'])}: {line['basis']}" for line in history.plans],
        "cost": cost_rows(history),
        "counts": ", ".join(f"{n} {status.lower()}" for status, n in sorted(spent.statuses.items())),
        "searched": spec.space.searched,
        "trials": tables.trials(history),
        "failures": tables.failures(history),
        "findings": history.findings,
        "advice": diagnosis.advice(history),
        "suffered": diagnosis.suffered(history),
        "provenance": tables.provenance(history),
        "spec": tables.spec_text(history),
    }


def cost_rows(history: History) -> list[tuple[str, str]]:
    """What it cost, as (what, how much); wall time and its split once the sweep has ended."""
    spent = cost(history)
    rows = [
        ("trials", str(spent.trials)),
        ("epochs", str(spent.epochs)),
        ("seconds in slots", f"{words.duration(spent.training_s)}, all slots together"),
    ]
    if spent.time:
        slots = int(spent.time["slots"])
        rows += [
            ("wall time", f"{words.duration(spent.time['wall_s'])} on {words.count(slots, 'slot')}"),
            ("of it", spent.split),
            ("GPU-hours", words.number(float(spent.time["gpu_hours"]))),
        ]
    return rows
