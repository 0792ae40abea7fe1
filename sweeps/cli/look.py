"""`sweeps status`, `report`, `compare` and `sync`: looking at a sweep, from its journal alone."""

from __future__ import annotations

import click

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
@click.argument("sweeps", nargs=-1, metavar="SWEEP SWEEP ...")
def compare(sweeps: tuple[str, ...]) -> None:
    """Put sweeps side by side: what each searched, what it cost and what came of it."""
    from sweeps.errors import UsageError
    from sweeps.history import History
    from sweeps.report.compare import compare as text
    from sweeps.storage import find_sweep

    if len(sweeps) < 2:
        raise UsageError("compare takes two sweeps or more. Name their folders, e.g. `sweeps compare runs/a runs/b`.")
    click.echo(text([History.open(find_sweep(sweep)) for sweep in sweeps]))


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
    from sweeps.tracking.views import page

    folder = find_sweep(sweep)
    history = History.open(folder)
    spec = words.spec_of(history)
    uri = tracking_uri or spec.tracking or tracking.default_uri(folder)
    tracking.sync(folder, uri, to_the_end=follow)
    click.echo(tracking.open_command(folder, uri))
    if address := page(history, uri):
        click.echo(f"then open {address}")
