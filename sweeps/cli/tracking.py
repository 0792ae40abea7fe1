"""`sweeps tracking up` and `template`: a team's MLflow server, here in the foreground or run by something else."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cluster.tracking_server import Server


@click.group()
def tracking() -> None:
    """An MLflow server that a team's sweeps share."""


@tracking.command()
@click.option(
    "--folder", default="tracking", show_default=True, type=click.Path(path_type=Path),
    help="What the server keeps on this machine: runs and artifacts unless they are elsewhere, basic-auth's files.",
)  # fmt: skip
@click.option("--store", metavar="URI", help="sqlite:////FILE or postgresql://USER@HOST/DB; default: an sqlite file.")
@click.option("--artifacts", metavar="PATH", help="A folder, or s3://…, which the server alone reaches.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to bind to; 0.0.0.0 is every one.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--allowed-hosts", metavar="NAME,...", help="The names it is called by from other machines.")
@click.option("--auth", is_flag=True, help="Ask for a user and a password (basic-auth).")
@click.option(
    "--password-file", type=click.Path(path_type=Path), help="Holds the admin's password; else the environment does."
)
def up(
    folder: Path,
    store: str | None,
    artifacts: str | None,
    host: str,
    port: int,
    allowed_hosts: str | None,
    auth: bool,
    password_file: Path | None,
) -> None:
    """Run an MLflow server until Ctrl-C: runs in sqlite or PostgreSQL, artifacts through it, on loopback unless told.

    A database's password comes from PGPASSWORD, PGPASSFILE or ~/.pgpass. The admin of --auth is called
    MLFLOW_TRACKING_USERNAME, else admin; the password comes from --password-file, MLFLOW_TRACKING_PASSWORD or
    ~/.mlflow/credentials.
    """
    from cluster import tracking_server
    from sweeps.errors import TrackingError, UsageError
    from sweeps.tracking import check, refuse_password

    if password_file and not auth:
        raise UsageError("tracking: --password-file is for --auth.\n  Add --auth, or leave both.")
    for uri in filter(None, (store, artifacts)):
        refuse_password(uri)
    names = tuple(name.strip() for name in (allowed_hosts or "").split(",") if name.strip())
    try:
        admin = tracking_server.admin_of(password_file) if auth else None
        server = tracking_server.planned(folder, store, artifacts, host, port, names, admin)
        check(server.store)
        click.echo(f"Starting MLflow on {server.address} …", err=True)
        for number in (signal.SIGTERM, signal.SIGHUP):  # a terminal that closes sends the latter
            signal.signal(number, signal.default_int_handler)
        tracking_server.serve(server, lambda: click.echo(_told(server)), sys.stderr)
    except tracking_server.ServerError as error:
        raise TrackingError(f"tracking: {error}") from None
    except KeyboardInterrupt:
        click.echo("MLflow has ended.", err=True)


@tracking.command()
@click.argument("kind", type=click.Choice(["systemd", "kubernetes"]))
def template(kind: str) -> None:
    """Print the systemd unit or the Kubernetes manifest that runs `sweeps tracking up`."""
    from cluster.tracking_server import template as text

    click.echo(text(kind), nl=False)


def _told(server: Server) -> str:
    """What a person wants to know of a server that answers."""
    from cluster.tracking_server import knows, on_loopback

    lines = [
        f"MLflow answers at {server.url}; Ctrl-C ends it.",
        f"  runs       {server.store}",
        f"  artifacts  {server.artifacts}, through the server",
    ]
    if server.admin:
        lines.append(f"  users      {server.users}")
        if not knows(server):
            lines.append(f"  The users' database has another password for {server.admin.name}: that one counts.")
    elif not on_loopback(server.host):
        lines.append("  Whoever reaches this port may change and delete everything: --auth asks who it is.")
    lines += [
        "Sweeps write to it by the line `tracking:` of their spec, or by",
        f"  sweeps run spec.yaml --tracking-uri {server.url}",
        f"  export MLFLOW_TRACKING_URI={server.url}   # what MLflow's own client reads",
    ]
    if server.admin:
        lines.append(
            "with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, or ~/.mlflow/credentials."
        )
    return "\n".join(lines)
