"""What the end-to-end tests share: the demo run once as a user runs it, a browser, MLflow as the demo says to open it.

Everything is started as a person starts it, by command line from the repository's root, and judged by what a person
or another program would read: exit code, output, files, pages.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from e2e.browsing import LIMIT_MS
from e2e.terminal import (
    BIN,
    Swept,
    below,
    end_group,
    environment,
    free_ports,
    get,
    processes,
    run_sweep,
    wait_until,
)

DEMO = "sweeps/examples/digits.yaml"
BROWSER_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The main job, run once: what `make demo` runs after the install, with a storage of its own."""
    return run_sweep(DEMO, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def own_loop(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The example of a loop of one's own, run once."""
    return run_sweep("sweeps/examples/own_loop.yaml", tmp_path_factory.mktemp("own_loop"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless chromium. Not for the whole session: Playwright keeps an event loop in the main thread."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium to look at pages with: apt-get install chromium")
    with sync_playwright() as playwright:
        expect.set_options(timeout=LIMIT_MS)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(BROWSER_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of an ordinary laptop's width, in a context of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(LIMIT_MS)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def mlflow_server(demo: Swept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow, opened by the very command that the demo printed, on a free port."""
    printed = re.search(r"^MLflow  (.+ --port )5000$", demo.out, flags=re.MULTILINE)
    assert printed, f"the demo printed no command that opens MLflow:\n{demo.out[-1500:]}"
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"http://127.0.0.1:{port}"
    with open(folder / "server.log", "w") as log:
        child = subprocess.Popen(
            f"exec env {printed[1]}{port}", shell=True, cwd=folder, env=environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: get(f"{address}/health"), f"MLflow by `{printed[1]}{port}`, log in {folder}", child)
        yield address
    finally:
        end_group(child)


@dataclass(frozen=True)
class Head:
    """A Ray head that a test started."""

    address: str
    """For RAY_ADDRESS."""
    dashboard: str
    """For `ray job submit --address`."""
    pid: int
    log: Path

    def jobs(self) -> list[dict[str, Any]]:
        """Every job that the cluster knows of: submitted ones, and drivers that connected."""
        return list(json.loads(get(f"{self.dashboard}/api/jobs/")))


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A real Ray head of two CPUs, as `ray start --head` makes one, ended by its own process."""
    gcs, dashboard, client, listen, grpc, metrics, runtime = free_ports(7)
    temporary = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))  # short: sockets below it have 107 characters at most
    log = temporary / "head.log"
    with open(log, "w") as output:
        child = subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats", "--num-cpus", "2",
             "--node-ip-address", "127.0.0.1", "--port", str(gcs), "--ray-client-server-port", str(client),
             "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard),
             "--dashboard-agent-listen-port", str(listen), "--dashboard-agent-grpc-port", str(grpc),
             "--metrics-export-port", str(metrics), "--runtime-env-agent-port", str(runtime),
             "--temp-dir", temporary, "--object-store-memory", str(256 * 2**20)],
            env=environment(RAY_AUTH_MODE="disabled"), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    started: dict[int, str] = {}
    try:
        address = f"http://127.0.0.1:{dashboard}"
        wait_until(lambda: get(f"{address}/api/version"), f"the Ray head, log in {log}", child)
        yield Head(f"127.0.0.1:{gcs}", address, child.pid, log)
    finally:
        started = below(child.pid, processes())
        end_group(child)
        left = processes()
        for pid, command in started.items():  # Ray's daemons lead groups of their own
            if pid in left and left[pid][1] == command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)
