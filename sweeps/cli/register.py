"""`sweeps register`: the model that a sweep found, in MLflow's registry."""

from __future__ import annotations

import click

from sweeps.cli.look import SWEEP


@click.command()
@SWEEP
@click.option("--name", help="Of the registered model; default: the spec's name.")
@click.option("--alias", default="champion", show_default=True, help="Points to the model's version afterwards.")
@click.option("--tracking-uri", metavar="URI", help="MLflow server or database; default: the sweep's own.")
def register(sweep: str, name: str | None, alias: str, tracking_uri: str | None) -> None:
    """Make the best model of a SWEEP a registered model in MLflow, which loads without pickle."""
    from sweeps.sweep import Sweep
    from sweeps.tracking.registry import description

    found = Sweep.open(sweep)
    reference = found.register(name, alias=alias, tracking=tracking_uri)
    click.echo(f"{reference}, now {reference.rpartition('/')[0]}@{alias}")
    click.echo(description(found.history, found.history.trials[found.best.trial]))
