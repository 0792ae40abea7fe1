"""The journals of sweeps that only MLflow has here, fetched by a child process (fetching.py). No mlflow import.

The writer keeps a sweep's whole journal with the sweep's run once it has ended. Fetched, that is a sweep's folder for
whoever reads journals.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from sweeps.tracking.orders import answer, done
from sweeps.tracking.uris import check, missing, wrong

MOST_NAMED = 5
"""So many of the sweeps that are there does a message name."""


def fetch_journals(sweeps: Sequence[str], uri: str, folder: Path) -> list[Path]:
    """A sweep's folder with nothing but the journal below `folder`, for each of the names.

    Raises TrackingError when MLflow cannot be used, has no such sweep, or has no journal of it.
    """
    check(uri)
    if missing(uri):
        raise wrong(uri, f"is not there, so {sweeps[0]} is not", "Mend the path.")
    found = answer(done("fetching", {"sweeps": list(sweeps), "folder": str(folder)}, uri))
    if "unknown" in found:
        raise wrong(uri, f"has no sweep {found['unknown']}", _mend(found["unknown"], found["known"]))
    if "why" in found:
        raise wrong(uri, f"gives no journal: {found['why'].rstrip('.')}", found["mend"])
    return [folder / name for name in sweeps]


def _mend(name: str, known: Sequence[str]) -> str:
    """What may have been meant; `known` has the newest first."""
    stem = Path(name).name
    near = [other for other in known if other.startswith(stem)] or difflib.get_close_matches(stem, known)
    if near:
        return f"Did you mean {' or '.join(near[:MOST_NAMED])}?"
    if not known:
        return "No sweep is there at all: `sweeps sync` writes one."
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return f"There are {', '.join(known[:MOST_NAMED])}{more}."
