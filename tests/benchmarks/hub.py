"""The MLflow of a team for a benchmark: `sweeps tracking up` over a PostgreSQL of its own, counted in and looked at.

What a writer brought is counted by SQL in the server's database against the journal's lines, and its pages are opened
in a headless chromium, so that neither the writer's code nor MLflow's API vouches for itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.harness import ROOT
from e2e.terminal import BIN, end_group, environment, wait_until
from postgres import Postgres, free_port, postgres
from sweeps.journal import read

START_S = 240
PAGE_MS = 120_000
LOOK_S = 0.2
POINT = "r.name, m.key, m.step, m.value, m.timestamp"
OF_SWEEP = "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'sweep' AND t.value = %s"
CURVE = ".js-plotly-plot path.js-line"


@dataclass(frozen=True)
class Hub:
    """A running server."""

    url: str
    database: Postgres

    def points(self, sweep: str) -> int:
        """So many points of a sweep's reports have arrived."""
        sql = f"SELECT count(*) FROM metrics m JOIN runs r USING (run_uuid) {OF_SWEEP} WHERE m.step > 0"
        return int(self.database.query(sql, sweep)[0][0])

    def wait_for(self, folder: Path, points: int, limit_s: float) -> None:
        """Return when so many points of the sweep have arrived."""
        deadline = time.monotonic() + limit_s
        while (arrived := self.points(folder.name)) < points:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{arrived} of {points} points of {folder.name} arrived in {limit_s:.0f} s")
            time.sleep(LOOK_S)

    def compared(self, folder: Path) -> tuple[int, int, int]:
        """Points of the sweep's journal that are not in the database, points there beyond them, runs likewise beyond.

        Runs count whether MLflow shows them or has them in its trash.
        """
        lines = read(folder)
        expected = points_of(lines)
        sql = f"SELECT {POINT} FROM metrics m JOIN runs r USING (run_uuid) {OF_SWEEP} WHERE m.step > 0"
        found = Counter(self.database.query(sql, folder.name))
        runs = Counter(name for (name,) in self.database.query(f"SELECT r.name FROM runs r {OF_SWEEP}", folder.name))
        once = Counter([folder.name, *(line["trial"] for line in lines if line["kind"] == "trial")])
        return (expected - found).total(), (found - expected).total(), (runs - once).total()


def points_of(lines: Iterable[Mapping[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Every point of a journal's reports, as a row of the database."""
    return Counter(
        (line["trial"], name, line["epoch"], value, round(line["at"] * 1000))
        for line in lines
        if line["kind"] == "report"
        for name, value in line["metrics"].items()
    )


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """A server that answers; ended in the end, its database and files removed.

    It has one processor, this process and what it starts meanwhile the others: a team's server is on another machine,
    where it takes none from the driver. Raises RuntimeError where there is one in all.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("the server needs a processor of its own, and there is one in all")
    with contextlib.ExitStack() as last:
        last.callback(os.sched_setaffinity, 0, cores)
        os.sched_setaffinity(0, cores[-1:])
        database = last.enter_context(postgres())
        name = last.enter_context(tempfile.TemporaryDirectory(prefix="tw-hub-"))
        port, log = free_port(), Path(name) / "up.log"
        options = ["--folder", Path(name) / "hub", "--port", str(port), "--store", database.uri]
        with open(log, "wb") as said:
            child = subprocess.Popen(
                [BIN / "python", "-m", "sweeps", "tracking", "up", *options],
                cwd=ROOT, env=environment(PGPASSWORD=database.password), stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, start_new_session=True,
            )  # fmt: skip
        last.callback(end_group, child)
        wait_until(lambda: "MLflow answers at" in log.read_text(), f"MLflow, log in {log}", child, START_S)
        os.sched_setaffinity(0, cores[:-1])
        yield Hub(f"http://127.0.0.1:{port}", database)


@contextlib.contextmanager
def browser_page() -> Iterator[Page]:
    """A page of a headless chromium, as high as a screen that shows the table and both charts."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise FileNotFoundError("no chromium to look at pages with: apt-get install chromium")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1600, "height": 1800})
        page.set_default_timeout(PAGE_MS)
        yield page
        browser.close()


def opened(link: str, runs: int) -> dict[str, float]:
    """Seconds from asking for a saved view until its table tells so many runs, and until so many curves are drawn."""
    seconds: dict[str, float] = {}
    with browser_page() as page:
        awaited = {"table": page.get_by_text(f"{runs} matching runs"), "curves": page.locator(CURVE).nth(runs - 1)}
        began = time.monotonic()
        page.goto(link)
        for name, locator in awaited.items():
            locator.wait_for(state="attached")
            seconds[name] = time.monotonic() - began
    return seconds
