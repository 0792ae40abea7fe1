"""The command line: `sweeps …`, or `python -m sweeps …`. One file for each group of commands.

An error that a person can mend is printed as itself, without a traceback: exit code 2 for the call or the spec, 1 for
a job that began and failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from sweeps.cli.check import doctor
from sweeps.cli.look import compare, diagnose, report, status, sync
from sweeps.cli.register import register
from sweeps.cli.run import extend, plan, replay, resume, run, stop
from sweeps.cli.tracking import tracking
from sweeps.cli.write import init
from sweeps.errors import SweepsError

BEGAN = time.time()


class Sweeps(click.Group):
    """Turns our errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SweepsError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            print("interrupted.", file=sys.stderr)
            ctx.exit(130)


@click.group(cls=Sweeps, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tunewright")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Hyperparameter sweeps that run the practitioner's playbook: explore, refine, confirm, and say why."""
    ctx.obj = BEGAN
    if "" not in sys.path:
        sys.path.insert(0, "")  # trainables are found from the current folder, as with `python -m`


for command in (
    run,
    resume,
    extend,
    replay,
    stop,
    plan,
    doctor,
    status,
    report,
    diagnose,
    compare,
    sync,
    register,
    tracking,
    init,
):
    main.add_command(command)
