"""`sweeps doctor`: is a trainable fit for a sweep?"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path))
@click.option("--trainable", metavar="MODULE:ATTR", help="Check this one with its defaults, instead of a spec's.")
@click.pass_context
def doctor(ctx: click.Context, spec: Path | None, trainable: str | None) -> None:
    """Check the trainable of a SPEC with its baseline: reports, gradients, seed, resume, config, traces."""
    from sweeps.errors import UsageError

    if (spec is None) == (trainable is None):
        raise UsageError("doctor: give a SPEC, or --trainable module:attr.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a trial: one intra-op thread
    from sweeps.foresight import at_hand, one_thread
    from trainables.checks import check

    config: dict[str, Any] = {}
    others: dict[str, Any] = {}
    found: Any = trainable
    with contextlib.ExitStack() as until_checked:
        if spec is not None:
            from sweeps.plan import baseline_of
            from sweeps.search import sobol
            from sweeps.spec import read_spec
            from trainables.hyperparameters import STANDARD

            document = until_checked.enter_context(at_hand(read_spec(spec)))
            found, config = document.trainable, baseline_of(document, STANDARD)
            draw = sobol(document.space, document.seed)
            drawn = [draw(number) for number in range(8)]
            for name in document.space.searched:
                values = [
                    point[name] for point in drawn if name in point and name in config and point[name] != config[name]
                ]
                others |= {name: values[0]} if values else {}
        failed = 0
        with one_thread():
            for result in check(found, config, others):
                click.echo(result)
                failed += not result.ok
    if failed:
        ctx.exit(1)
