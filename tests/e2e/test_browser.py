"""The demo's report, opened in a browser and read there as a person reads it."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest
from playwright.sync_api import Page

from e2e.browsing import screenshot
from e2e.terminal import Swept, of_kind, trials_of

pytestmark = pytest.mark.e2e
COLOURS = """img => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [img.naturalWidth, img.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(img, 0, 0);
    const data = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return new Set(data).size;
}"""


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
        "lr_range", "curves", "progress", "parameters", "confirm", "calibration",
    ]  # fmt: skip
    for image in page.locator("figure img").all():
        caption = image.get_attribute("alt")
        assert image.evaluate("img => img.naturalWidth") > 200, caption
        assert image.evaluate(COLOURS) > 50, f"{caption} is blank or all but blank"
        box = image.bounding_box()
        assert box
        assert box["width"] > 400, caption


def test_the_report_shows_the_digits_that_the_winner_gets_wrong(
    demo: Swept, report: tuple[Page, list[str], list[str]]
) -> None:
    page, lines = report[0], demo.journal
    (found,) = [line["evidence"] for line in of_kind(lines, "finding") if line["finding"] == "errors"]
    named = {f"row {row['row']}" for kind in ("worst", "confident", "unsure") for row in found[kind]}
    images = page.locator("#errors img").all()
    assert {image.get_attribute("alt") for image in images} == named
    for image in images:
        assert image.evaluate("img => [img.naturalWidth, img.naturalHeight]") == [8, 8]
        assert image.evaluate(COLOURS) > 5, f"{image.get_attribute('alt')} is blank or all but blank"
        box = image.bounding_box()
        assert box
        assert box["width"] == box["height"] == 48


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
