"""`sweeps status`, `report`, `diagnose`, `compare` and `sync`: looking at sweeps, from their journals alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sweeps.storage import Folder

SWEEP = click.argument("sweep")


@click.command()
@SWEEP
def status(sweep: str) -> None:
    """Where a SWEEP (its folder, or its name under ./runs) stands, finished or running."""
    from sweeps.history import History
    from sweeps.report.summary import status as text
    from sweeps.storage import find_sweep

    click.echo(text(History.open(find_sweep(sweep))))


@click.command()
@SWEEP
def report(sweep: str) -> None:
    """Write the report of a SWEEP anew from its journal, and say where it is."""
    from sweeps.history import History
    from sweeps.report import html
    from sweeps.storage import find_sweep

    folder = find_sweep(sweep)
    click.echo(html.write(History.open(folder), folder))


@click.command()
@click.argument("sweep", required=False)
@click.argument("trial", required=False)
@click.option("--curves", type=click.Path(dir_okay=False), help="Instead: a table of anyone's curves, Parquet.")
def diagnose(sweep: str | None, trial: str | None, curves: str | None) -> None:
    """What each trial of a SWEEP suffered from, on what evidence, and what to do; of one TRIAL all that was found.

    A table of curves has a row an epoch, and columns trial, epoch, train/loss, val/loss and what else was measured
    (val/accuracy, grad/norm ...; config/<name>).
    """
    from sweeps.errors import UsageError
    from sweeps.history import History
    from sweeps.insight.diagnose import as_text
    from sweeps.insight.diagnose import diagnose as ask
    from sweeps.insight.runs import of_file, of_history
    from sweeps.report.diagnosis import advice, to_try
    from sweeps.storage import find_sweep

    if (sweep is None) == (curves is None):
        raise UsageError("diagnose takes a sweep, or --curves with a table. Give one of them.")
    history = None if curves is not None else History.open(find_sweep(str(sweep)))
    runs = of_file(str(curves)) if history is None else of_history(history)
    if trial is not None:
        known = [run.trial for run in runs]
        runs = [run for run in runs if run.trial == trial]
        if not runs:
            raise UsageError(f"no trial {trial!r} has reported. Known: {', '.join(known[:8]) or 'none'} ...")
    click.echo(as_text([ask(run) for run in runs], whole=trial is not None or len(runs) == 1))
    if history is not None and trial is not None:
        for line in to_try(history, history.trials[trial]):
            click.echo(f"{'':<14} try {line}")
    if history is not None and trial is None:
        for line in [found["message"] for found in history.findings if "phase" in found] + advice(history):
            click.echo(line)


@click.command()
@click.argument("sweeps", nargs=-1, metavar="SWEEP SWEEP ...")
@click.option("--tracking-uri", metavar="URI", help="MLflow server or database that has those that are no folder.")
def compare(sweeps: tuple[str, ...], tracking_uri: str | None) -> None:
    """Put sweeps side by side: what each searched, what it cost and what came of it."""
    from sweeps.errors import UsageError
    from sweeps.history import History
    from sweeps.report.compare import compare as text

    if len(sweeps) < 2:
        raise UsageError("compare takes two sweeps or more. Name their folders, e.g. `sweeps compare runs/a runs/b`.")
    with tempfile.TemporaryDirectory() as scratch:
        folders = found(sweeps, tracking_uri, Path(scratch))
        click.echo(text([History.open(folder) for folder in folders]))


def found(sweeps: Sequence[str], tracking_uri: str | None, scratch: Path) -> list[Folder]:
    """The folder of each sweep: its own, else one in `scratch` with its journal from MLflow."""
    from sweeps.errors import StorageError
    from sweeps.storage import find_sweep
    from sweeps.tracking import fetch_journals

    folders: dict[str, Folder] = {}
    for sweep in sweeps:
        try:
            folders[sweep] = find_sweep(sweep)
        except StorageError:
            if tracking_uri is None or "://" in sweep:  # a folder was meant
                raise
    elsewhere = [sweep for sweep in dict.fromkeys(sweeps) if sweep not in folders]
    if tracking_uri and elsewhere:
        folders |= dict(zip(elsewhere, fetch_journals(elsewhere, tracking_uri, scratch), strict=True))
    return [folders[sweep] for sweep in sweeps]


@click.command()
@SWEEP
@click.option("--tracking-uri", metavar="URI", help="MLflow server or database; default: the sweep's own.")
@click.option("--follow", is_flag=True, help="Go on until it ends, beside its driver, which writes elsewhere.")
def sync(sweep: str, tracking_uri: str | None, follow: bool) -> None:
    """Write a SWEEP into MLflow; what is there already is left as it is."""
    from sweeps import tracking
    from sweeps.history import History
    from sweeps.report import words
    from sweeps.storage import find_sweep
    from sweeps.tracking.views import pages

    folder = find_sweep(sweep)
    history = History.open(folder)
    spec = words.spec_of(history)
    uri = tracking_uri or spec.tracking or tracking.default_uri(folder)
    tracking.sync(folder, uri, to_the_end=follow)
    click.echo(tracking.open_command(folder, uri))
    for line in pages(history, uri):
        click.echo(line)
