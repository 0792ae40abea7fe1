"""`sweeps init`: a first spec for a trainable, with comments."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

TEMPLATE = """\
# A sweep of {trainable}.
#   sweeps plan {file}     what it will cost
#   sweeps run {file}      run it
trainable: {trainable}

# What may vary. A standard hyperparameter without a domain (`lr:`) takes the playbook's range. Domains:
#   {{log: [1e-4, 1e-1]}}   {{float: [0, 0.5]}}   {{int: [8, 64], scale: log}}   {{powers_of_two: [16, 128]}}
#   [relu, gelu]          a choice             0.1                           a constant, not searched
# `sgd.momentum` exists only where optimizer is sgd; any other condition is written {{…, when: {{optimizer: sgd}}}}.
space:
{space}
# What counts as better, among the metrics that the trainable reports.
metric: val/loss
mode: min

# The config you use today. The winner has to beat it over several seeds.
{baseline}
# What is wrong with the data; can the network learn them at all; wide and cheap, then narrow and longer; the best and
# the baseline over seeds.
phases:
  - {{kind: audit}}
  - {{kind: preflight}}
  - {{kind: explore, trials: 24, epochs: 3, data_fraction: 0.5}}
  - {{kind: refine, trials: 12, epochs: 9}}
  - {{kind: confirm, top: 2, seeds: 3}}

# resources: {{cpus_per_worker: 1, gpus_per_worker: 0, concurrency: 4}}   # of one trial; default: one CPU, all that fit
# budget: {{hours: 2}}                                                    # ends the sweep when it is spent
# storage: ./runs                                                       # or s3://bucket/sweeps, for all nodes
# tracking: http://mlflow.example:5000                                  # default: an sqlite file beside the sweep
"""
LOOP_SPACE = "  lr:\n  batch_size:\n  optimizer:\n  sgd.momentum:\n  weight_decay:\n  schedule:\n"
LOOP_BASELINE = "baseline: {lr: 1e-3, batch_size: 64, optimizer: adamw, weight_decay: 1e-4, schedule: constant}\n"
OWN_SPACE = "  lr: {log: [1e-4, 1e-1]}   # name here what your loop reads from its config\n"
OWN_BASELINE = "baseline: {lr: 1e-3}\n"


@click.command()
@click.argument("trainable")
@click.option(
    "--out", "file", default="sweep.yaml", show_default=True, type=click.Path(path_type=Path), help="File to write."
)
def init(trainable: str, file: Path) -> None:
    """Write a commented first spec for a TRAINABLE (module:attr) that can be imported from here."""
    import inspect

    from sweeps.errors import UsageError
    from trainables.contract import TrainableError, instantiate, load

    if file.exists():
        raise UsageError(f"{file} is there already. Give another name with --out.")
    try:
        found = load(trainable)
        own_loop = inspect.isgeneratorfunction(found)
        if not own_loop:
            instantiate(found)
    except TrainableError as error:
        raise UsageError(str(error)) from None
    text = TEMPLATE.format(
        trainable=trainable,
        file=file,
        space=OWN_SPACE if own_loop else LOOP_SPACE,
        baseline=OWN_BASELINE if own_loop else LOOP_BASELINE,
    )
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}. Give another name with --out.") from None
    print(f"wrote {file}. Next: sweeps plan {shlex.quote(str(file))}", file=sys.stdout)
