"""The demo's report and its MLflow, opened in a browser and read there as a person reads them.

Screenshots are left in build/screens for those who want to look themselves.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from statistics import fmean, stdev
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from e2e.terminal import ROOT, Swept, get, of_kind, trials_of

pytestmark = pytest.mark.e2e
SCREENS = ROOT / "build" / "screens"
LIMIT_MS = 60_000
"""MLflow's pages are a megabyte of script on two shared cores."""
COLOURS = """img => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [img.naturalWidth, img.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(img, 0, 0);
    const data = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return new Set(data).size;
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of an ordinary laptop's width, in a context of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(LIMIT_MS)
    yield context.new_page()
    context.close()


def screenshot(page: Page, name: str, **options: Any) -> None:
    """Leave a picture of the page."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"{name}.png", **options)


@pytest.fixture
def report(demo: Swept, page: Page) -> tuple[Page, list[str], list[str]]:
    """The report, opened from its file: the page, what its console said, and every address it asked for."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((demo.folder / "report.html").as_uri())
    page.wait_for_load_state("networkidle")
    screenshot(page, "report", full_page=True)
    return page, said, asked


def test_the_report_is_one_file_without_errors(demo: Swept, report: tuple[Page, list[str], list[str]]) -> None:
    _, said, asked = report
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [(demo.folder / "report.html").as_uri()]


def test_the_report_has_its_sections_and_fits_the_width(report: tuple[Page, list[str], list[str]]) -> None:
    page = report[0]
    headings = page.locator("h2").all_inner_texts()
    assert headings[:3] == ["Confirm", "Config beside the baseline's", "Figures"]
    assert {"Ranges", "Plan and actual", "Cost", "Trials", "Provenance"} <= set(headings)
    for section in page.locator("section").all():
        assert len(section.inner_text().split()) > 5, f"{section.get_attribute('id')} is empty"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_report_shows_its_figures(report: tuple[Page, list[str], list[str]]) -> None:
    page = report[0]
    assert [f.get_attribute("class") for f in page.locator("figure").all()] == [
        "lr_range", "curves", "progress", "parameters", "confirm",
    ]  # fmt: skip
    for image in page.locator("img").all():
        caption = image.get_attribute("alt")
        assert image.evaluate("img => img.naturalWidth") > 200, caption
        assert image.evaluate(COLOURS) > 50, f"{caption} is blank or all but blank"
        box = image.bounding_box()
        assert box
        assert box["width"] > 400, caption


def test_the_report_gives_the_means_of_the_journal(demo: Swept, report: tuple[Page, list[str], list[str]]) -> None:
    page, lines = report[0], demo.journal
    (verdict,) = of_kind(lines, "verdict")
    assert verdict["text"] in page.locator(".said").inner_text()
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#verdict tr").all()]
    shown = {row[0].removesuffix(" (winner)"): row[1] for row in rows if row}
    confirm = trials_of(lines, "confirm")
    assert shown.keys() == {trial["role"] for trial in confirm.values()}
    last = {line["trial"]: line["metrics"]["val/loss"] for line in of_kind(lines, "report")}
    for role, spread in shown.items():
        values = [float(last[trial]) for trial, line in confirm.items() if line["role"] == role]
        mean, deviation = spread.split(" ± ")
        digits = len(mean.partition(".")[2])
        assert float(mean) == pytest.approx(fmean(values), abs=0.51 * 10**-digits), role
        assert float(deviation) == pytest.approx(stdev(values), abs=0.51 * 10**-digits), role


def test_the_report_lists_every_trial_with_its_ranges_readable(
    demo: Swept, report: tuple[Page, list[str], list[str]]
) -> None:
    page, lines = report[0], demo.journal
    begun = {line["trial"] for line in of_kind(lines, "trial")}
    assert set(page.locator("#trials td:first-child").all_inner_texts()) == begun
    (refine,) = [line for line in of_kind(lines, "phase") if line["phase"] == "refine"]
    rows = {row[0]: row for row in (r.locator("td").all_inner_texts() for r in page.locator("#ranges tr").all()) if row}
    for change in refine["changes"]:
        name, source, before, after, action, why = rows[change["parameter"]]
        assert (before, after, action) == (change["before"], change["after"], change["action"]), name
        assert source
        assert why


@pytest.fixture
def runs(demo: Swept, mlflow_server: str) -> dict[str, str]:
    """The id of each run of the demo by its name, and of its experiment under an empty name."""
    experiment = json.loads(get(f"{mlflow_server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=digits"))
    number = experiment["experiment"]["experiment_id"]
    tables = f"{mlflow_server}/ajax-api/2.0/mlflow/runs/search"
    found = json.loads(post(tables, {"experiment_ids": [number], "max_results": 500}))["runs"]
    return {"": number, **{run["info"]["run_name"]: run["info"]["run_id"] for run in found}}


def post(url: str, body: dict[str, Any]) -> bytes:
    """What a server answers to a JSON document."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def cells(page: Page) -> dict[str, str]:
    """Rows of two cells on MLflow's run page: metrics and parameters by name."""
    rows = (row.inner_text().split("\n") for row in page.get_by_role("row").all())
    return {row[0].strip(): row[-1].strip() for row in rows if len(row) >= 2}


def test_mlflow_lists_the_sweep_and_its_trials(
    demo: Swept, mlflow_server: str, runs: dict[str, str], page: Page
) -> None:
    begun = {line["trial"] for line in of_kind(demo.journal, "trial")}
    assert runs.keys() == {"", demo.folder.name, *begun}
    page.set_viewport_size({"width": 1600, "height": 1800})  # as high as 46 rows: the table draws what can be seen
    page.goto(f"{mlflow_server}/#/experiments/{runs['']}/runs?workflowType=machine_learning")
    expect(page.get_by_role("link", name=demo.folder.name)).to_be_visible()
    expect(page.get_by_text(f"{len(begun) + 1} matching runs")).to_be_visible()
    screenshot(page, "mlflow-runs")
    names = set(page.get_by_role("link").all_inner_texts())
    assert len(names & begun) >= 30
    assert {name.partition("-")[0] for name in names & begun} == {"explore", "refine", "confirm"}


def test_the_printed_link_opens_the_sweep_at_a_glance(demo: Swept, mlflow_server: str, page: Page) -> None:
    """Trials only, with what was searched and a curve of each."""
    printed = re.search(r"then open http://127\.0\.0\.1:5000(\S+)", demo.out)
    assert printed
    begun = {line["trial"] for line in of_kind(demo.journal, "trial")}
    page.set_viewport_size({"width": 1600, "height": 1800})
    page.goto(mlflow_server + printed[1])
    expect(page.get_by_text(f"{len(begun)} matching runs")).to_be_visible()
    expect(page.get_by_text("Parallel Coordinates")).to_be_visible()
    expect(page.locator(".js-plotly-plot path.js-line").nth(9)).to_be_attached()
    screenshot(page, "mlflow-view")
    assert page.get_by_text("Error loading shared view state").count() == 0


def test_mlflow_shows_a_trials_params_and_metrics(
    demo: Swept, mlflow_server: str, runs: dict[str, str], page: Page
) -> None:
    lines = demo.journal
    (verdict,) = of_kind(lines, "verdict")
    name = verdict["best_trial"]
    trial = trials_of(lines, "confirm")[name]
    reports = [line["metrics"] for line in of_kind(lines, "report") if line["trial"] == name]
    page.set_viewport_size({"width": 1600, "height": 1800})
    page.goto(f"{mlflow_server}/#/experiments/{runs['']}/runs/{runs[name]}?workflowType=machine_learning")
    expect(page.get_by_text("log10_lr")).to_be_visible()
    expect(page.get_by_text("best/val/loss")).to_be_visible()
    screenshot(page, "mlflow-trial")
    shown = cells(page)
    assert float(shown["lr"]) == trial["config"]["lr"]
    assert shown["optimizer"] == trial["config"]["optimizer"]
    assert float(shown["val/loss"]) == pytest.approx(reports[-1]["val/loss"])
    assert float(shown["best/val/loss"]) == pytest.approx(min(metrics["val/loss"] for metrics in reports))
    page.goto(f"{mlflow_server}/#/experiments/{runs['']}/runs/{runs[name]}/model-metrics")
    chart = page.locator(".js-plotly-plot path.js-line").first  # a curve that is drawn, not an empty frame
    expect(chart).to_be_attached()
    assert chart.get_attribute("d").count("L") > 5  # type: ignore[union-attr]
    screenshot(page, "mlflow-trial-curves")


def test_mlflow_shows_the_sweeps_verdict_and_figures(
    demo: Swept, mlflow_server: str, runs: dict[str, str], page: Page
) -> None:
    (verdict,) = of_kind(demo.journal, "verdict")
    run = f"{mlflow_server}/#/experiments/{runs['']}/runs/{runs[demo.folder.name]}"
    page.goto(f"{run}?workflowType=machine_learning")
    expect(page.get_by_text(verdict["text"].rstrip("."))).to_be_visible()
    expect(page.get_by_text(re.compile(r"mean ± sd"))).to_be_visible()
    screenshot(page, "mlflow-sweep")
    page.goto(f"{run}/artifacts")
    for name in ("report.html", "spec.json"):
        expect(page.get_by_text(name)).to_be_visible()
    page.get_by_text("figures").click()
    expect(page.get_by_text("progress.png")).to_be_visible()
    page.get_by_text("curves.png").click()
    curves = page.locator("img[src^='blob:'], img[src*='artifact']").first
    expect(curves).to_be_visible()
    assert curves.evaluate("img => img.decode().then(() => img.naturalWidth)") > 1000
    screenshot(page, "mlflow-curves")


def test_the_mlflow_writer_had_no_trouble(demo: Swept) -> None:
    log = (demo.folder / "logs" / "mlflow.log").read_text(encoding="utf-8")
    assert "complete: 45 trials" in log
    assert "Traceback" not in log
    assert "out of reach" not in log
