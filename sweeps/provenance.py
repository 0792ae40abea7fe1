"""Where a sweep comes from: its spec, code, versions and hardware, as the first line that each driver writes."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.local import Cluster
from sweeps.history import Record
from sweeps.journal import FORMAT, now
from sweeps.space import Config
from sweeps.spec import SweepSpec
from sweeps.warm_start import Origin


def header(
    record: Record,
    spec: SweepSpec,
    slots: int,
    cluster: Cluster,
    began: float,
    origins: Iterable[Origin],
    defaults: Config,
) -> None:
    """Write the journal's first line: what runs, from which code and weights, with which versions, on what.

    `defaults` are the hyperparameters of the loop, where it is the platform's, as they are without the config's.
    """
    packages = ("torch", "ray", "mlflow", "hyperopt", "pyarrow", "tunewright")
    record.write(
        "sweep", format=FORMAT, name=record.history.name, id=record.history.header.get("id") or uuid.uuid4().hex,
        spec=spec.document(), spec_digest=spec.digest,
        generation=record.journal.generation, git=git_state(), versions=dict(versions(packages)),
        warm_start=[asdict(origin) for origin in origins], defaults=dict(defaults),
        hardware={
            "cpus": sum(node["CPU"] for node in cluster.nodes.values()),
            "gpus": sum(node["GPU"] for node in cluster.nodes.values()),
            "nodes": len(cluster.nodes), "slots": slots, "machine": platform.machine(),
            "python": platform.python_version(),
        },
        began=began, ready=now(),
    )  # fmt: skip


def versions(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and version of the packages that are installed; in a job our own code may be its files only."""
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            yield package, version(package)


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it has changes; None outside a git checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, cwd=os.getcwd())
        except (
            OSError,
            subprocess.TimeoutExpired,
        ):  # no git, or a file system that hangs: provenance is not worth a failure
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(ask("status", "--porcelain"))}


def note_changed_code(record: Record, before: Mapping[str, Any] | None) -> None:
    """Write a finding when the code is not that of the driver before, whose git state `before` is."""
    now = record.history.header["git"]
    if before and now and (before["commit"] != now["commit"] or before["dirty"] != now["dirty"]):
        commits = " -> ".join(f"{git['commit'][:9]}{' with changes' if git['dirty'] else ''}" for git in (before, now))
        message = f"the code changed while the sweep was interrupted ({commits}): trials may not compare"
        record.write("finding", finding="code_changed", severity="warn", message=message)
