"""`sweeps plan` and `sweeps run`: what a spec will cost, and doing it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from sweeps.cli.look import SWEEP

SPEC = click.argument("spec", type=click.Path(path_type=Path))
STORAGE = click.option(
    "--storage", metavar="PATH", help="Keep the sweep's folder here (a folder, or s3://…), not where the spec says."
)
TRACKING = click.option(
    "--tracking-uri", metavar="URI", help="MLflow server or database; default: the spec's, else a file."
)


def overrides(storage: str | None, tracking_uri: str | None) -> dict[str, Any]:
    """The spec's keys that options replace."""
    given = {"storage": storage, "tracking": tracking_uri}
    return {key: value for key, value in given.items() if value is not None}


@click.command()
@SPEC
@STORAGE
@TRACKING
@click.pass_obj
def run(began: float, spec: Path, storage: str | None, tracking_uri: str | None) -> None:
    """Run the sweep of a SPEC (a YAML file) to its verdict."""
    from sweeps.spec import read_spec

    document = read_spec(spec, overrides(storage, tracking_uri))
    from sweeps.sweep import Sweep  # imports Ray: only once the spec is known to be right

    Sweep(document).run(began=began)


@click.command()
@SWEEP
@click.option("--spec", type=click.Path(path_type=Path), help="The spec, with another budget, resources or tracking.")
@click.pass_obj
def resume(began: float, sweep: str, spec: Path | None) -> None:
    """Go on with a SWEEP that was interrupted, killed or halted, to its verdict."""
    from sweeps.spec import read_spec
    from sweeps.sweep import Sweep

    Sweep.open(sweep).resume(spec=read_spec(spec) if spec else None, began=began)


@click.command()
@SWEEP
@click.option("--trials", type=int, required=True, help="How many trials to add to the last search phase.")
@click.option("--spec", type=click.Path(path_type=Path), help="The spec, with another budget, resources or tracking.")
@click.pass_obj
def extend(began: float, sweep: str, trials: int, spec: Path | None) -> None:
    """Go on from a SWEEP that has finished: more trials of its last search, and the verdict anew."""
    from sweeps.spec import read_spec
    from sweeps.sweep import Sweep

    Sweep.open(sweep).extend(trials, spec=read_spec(spec) if spec else None, began=began)


@click.command()
@SWEEP
@click.argument("trial")
@click.option("--seeds", type=int, default=3, show_default=True, help="How many; the first is the trial's own.")
@click.option("--spec", type=click.Path(path_type=Path), help="The spec, with another budget, resources or tracking.")
@click.pass_obj
def replay(began: float, sweep: str, trial: str, seeds: int, spec: Path | None) -> None:
    """Train a TRIAL of a SWEEP that has finished again from scratch, by the schedule that its ancestors had."""
    from sweeps.spec import read_spec
    from sweeps.sweep import Sweep

    Sweep.open(sweep).replay(trial, seeds=seeds, spec=read_spec(spec) if spec else None, began=began)


@click.command()
@SWEEP
@click.argument("trial", required=False)
def stop(sweep: str, trial: str | None) -> None:
    """Stop a running SWEEP, which can be resumed, or one TRIAL of it, which counts as far as it came."""
    from sweeps import requests
    from sweeps.storage import find_sweep

    folder = find_sweep(sweep)
    requests.stop(folder, trial)
    then = f"{trial} ends after this epoch." if trial else f"`sweeps resume {folder}` goes on with it."
    click.echo(f"The driver of {folder} knows: {then}")


@click.command()
@SPEC
@STORAGE
@click.option("--measure", is_flag=True, help="Train the baseline for up to 20 s to know the time.")
def plan(spec: Path, storage: str | None, measure: bool) -> None:
    """Show what a SPEC will cost on this machine, without running it."""
    from sweeps.spec import read_spec

    document = read_spec(spec, overrides(storage, None))
    from sweeps.foresight import MEASURE_S, foresee
    from sweeps.plan import render

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a trial: one intra-op thread
    click.echo(render(foresee(document, measure_s=MEASURE_S if measure else None), document))
