"""Commands as a person types them, the journals they leave, and the processes they start.

The journal is read here as the JSON lines that it is, so that no code of ours vouches for itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SLOT = r"ray::Slot\b"
"""How a slot's process is called, idle (`ray::Slot`) or at work (`ray::Slot.command`)."""
RAYLET = r"\S*/raylet "
"""How a Ray node's own process is called."""


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    """Standard output and standard error, as a terminal shows them."""
    wall_s: float
    lines: list[tuple[float, str]]
    """Each line with the seconds after the start at which it came."""
    slots: set[int] = field(default_factory=set)
    """Processes that were slots below the one that was watched, as seen every quarter of a second."""
    raylets: set[int] = field(default_factory=set)
    """Likewise raylets: one for each Ray that ran there."""


@dataclass
class Swept(Done):
    """A sweep that was run by command."""

    folder: Path = Path()

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Every line of the sweep's journal."""
        return journal(self.folder)


def journal(folder: Path) -> list[dict[str, Any]]:
    """Every line of a sweep's journal, as JSON."""
    files = sorted((folder / "journal").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def of_kind(lines: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """The lines of a kind."""
    return [line for line in lines if line["kind"] == kind]


def trials_of(lines: Sequence[Mapping[str, Any]], phase: str) -> dict[str, Mapping[str, Any]]:
    """The first line of each trial of a phase."""
    found: dict[str, Mapping[str, Any]] = {}
    for line in of_kind(lines, "trial"):
        if line["phase"] == phase:
            found.setdefault(line["trial"], line)
    return found


def ends_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """How each trial ended."""
    return {line["trial"]: line for line in of_kind(lines, "end") if "trial" in line}


def environment(**more: str) -> dict[str, str]:
    """That of a user who has activated the virtual environment."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **more}


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            found[int(entry.name)] = (parent, command)
    return found


def below(ancestor: int, known: Mapping[int, tuple[int, str]]) -> dict[int, str]:
    """The command lines of all processes that descend from one."""
    found: dict[int, str] = {}
    for pid, (parent, command) in known.items():
        seen = {pid}
        while parent in known and parent != ancestor and parent not in seen:
            seen.add(parent)
            parent = known[parent][0]
        if parent == ancestor:
            found[pid] = command
    return found


def named(pattern: str, found: Mapping[int, str]) -> set[int]:
    """The processes whose command line begins like the pattern."""
    return {pid for pid, command in found.items() if re.match(pattern, command)}


def run_command(
    *command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None, limit_s: float = 240, watched: int = 0
) -> Done:
    """Run a command to its end and note when each line came, and which slots and raylets the process `watched` has."""
    began, lines, slots, raylets = time.monotonic(), [], set(), set()
    child = subprocess.Popen(
        [str(word) for word in command], cwd=cwd, env=env or environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", start_new_session=True,
    )  # fmt: skip

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append((time.monotonic() - began, line.rstrip("\n")))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while child.poll() is None:
            if time.monotonic() - began > limit_s:
                told = "\n".join(line for _, line in lines)
                pytest.fail(f"{command} is still at work after {limit_s} s:\n{told}")
            if watched:
                found = below(watched, processes())
                slots |= named(SLOT, found)
                raylets |= named(RAYLET, found)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.25)
        wall = time.monotonic() - began
        reader.join(10)  # the MLflow writer has its own log, so nobody else holds the pipe
    finally:
        end_group(child)
        if child.stdout and not reader.is_alive():
            child.stdout.close()
    return Done(child.returncode, "\n".join(line for _, line in lines), wall, lines, slots, raylets)


def run_sweep(spec: str | Path, storage: Path, **options: Any) -> Swept:
    """`sweeps run SPEC --storage STORAGE`; exactly one new folder is expected in the storage."""
    before = set(storage.iterdir()) if storage.exists() else set()
    done = run_command(BIN / "sweeps", "run", spec, "--storage", storage, **options)
    new = (set(storage.iterdir()) if storage.exists() else set()) - before
    assert len(new) == 1, f"new in {storage}: {new}\n{done.out}"
    return Swept(**vars(done), folder=new.pop())


def end_group(child: subprocess.Popen[Any], grace_s: float = 20) -> None:
    """End a process that was started as the leader of its own group, and what is left of the group."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            child.send_signal(sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def wait_until(ready: Callable[[], Any], what: str, child: subprocess.Popen[Any], limit_s: float = 120) -> Any:
    """What `ready` returns once that is true. Fails when the child ends before, or when it takes too long."""
    deadline = time.monotonic() + limit_s
    while not (found := ready()):
        if child.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{what}: not after {limit_s} s, or its process has ended (exit code {child.poll()})")
        time.sleep(0.2)
    return found


def get(url: str) -> bytes:
    """What a server answers, empty while it does not."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def free_ports(count: int) -> list[int]:
    """Free ports that no Ray gives to its workers (10002–19999) and that the kernel does not lend (32768 and above)."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found
