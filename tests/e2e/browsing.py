"""What is read from pages in a browser: MLflow's tables and charts as data; and pictures, to look at oneself."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from playwright.sync_api import Page

from e2e.terminal import ROOT

SCREENS = ROOT / "build" / "screens"
LIMIT_MS = 60_000
"""MLflow's pages are a megabyte of script on two shared cores."""
WIDE, HIGH = 3200, 2600
"""A window in which MLflow's tables, which draw what can be seen, draw everything that a test reads."""
RUNS = """() => {
    const rows = {};
    for (const cell of document.querySelectorAll("[role=gridcell][col-id]")) {
        const place = Number(cell.closest("[row-index]").getAttribute("row-index"));
        (rows[place] ??= {})[cell.getAttribute("col-id")] = cell.innerText.trim();
    }
    return Object.keys(rows).map(Number).sort((a, b) => a - b).map(place => rows[place]);
}"""
TRACES = """chart => (document.querySelectorAll(".js-plotly-plot")[chart]?.data ?? []).map(
    trace => ({name: trace.name, names: trace.names, x: trace.x, y: trace.y}))"""
DRAWN = """([chart, count]) =>
    new Set(document.querySelectorAll(".js-plotly-plot")[chart]?.data.map(trace => trace.name)).size >= count"""
COMPARED = """() => {
    const text = cell => cell.innerText.trim();
    const rows = [...document.querySelectorAll("table tr")].map(row => [...row.children].map(text));
    const grid = {};
    for (const cell of document.querySelectorAll(".ReactVirtualized__Grid__innerScrollContainer > *"))
        (grid[cell.style.top] ??= []).push(text(cell));
    return [...rows, ...Object.values(grid)];
}"""


def screenshot(page: Page, name: str, **options: Any) -> None:
    """Leave a picture of the page in build/screens."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"{name}.png", **options)


def post(url: str, body: dict[str, Any]) -> bytes:
    """What a server answers to a JSON document."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def cells(page: Page) -> dict[str, str]:
    """Rows of two cells on MLflow's run page: metrics and parameters by name."""
    rows = (row.inner_text().split("\n") for row in page.get_by_role("row").all())
    return {row[0].strip(): row[-1].strip() for row in rows if len(row) >= 2}


def listed(page: Page) -> list[dict[str, str]]:
    """The rows of MLflow's table of runs in their order: cells by column, `name` and `colour` of a run, `group` of a
    group's head."""
    found: list[dict[str, str]] = page.evaluate(RUNS)
    for row in found:
        first, _, last = row.pop("attributes.`Run Name`").partition("\n")
        if first.startswith("Group: "):
            row["group"] = f"{first.removeprefix('Group: ')} {last}"
        else:
            row |= {"colour": first, "name": last}
    return found


def bars(page: Page, chart: int) -> dict[str, float]:
    """The length of each run's bar; charts are counted from the top, without parallel coordinates."""
    page.wait_for_function(DRAWN, arg=[chart, 1])
    (trace,) = page.evaluate(TRACES, chart)
    return dict(zip(trace["names"], trace["x"], strict=True))


def curves(page: Page, chart: int, count: int) -> dict[str, list[float]]:
    """The values of each run's curve, once there are so many curves."""
    page.wait_for_function(DRAWN, arg=[chart, count])
    return {trace["name"]: trace["y"] for trace in page.evaluate(TRACES, chart)}


def compared(page: Page) -> dict[str, list[str]]:
    """The rows of MLflow's page that compares runs: a value for each run by what it is a value of."""
    rows: list[list[str]] = page.evaluate(COMPARED)
    return {row[0]: row[1:] for row in rows if len(row) > 1}
