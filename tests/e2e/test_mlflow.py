"""The demo in MLflow, opened by the command and the links that it printed: the pages show what the journal says.

MLflow's saved views are a format of its own; these tests guard it. Screenshots are left in build/screens.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from e2e.browsing import HIGH, WIDE, bars, cells, compared, curves, listed, post, screenshot
from e2e.terminal import Swept, ends_of, get, of_kind, trials_of
from integration.test_tracking import free_port
from integration.test_tracking import mlflow_server as served
from recorded import record
from sweeps.history import History
from sweeps.journal import read
from sweeps.tracking import sync
from sweeps.tracking.views import MOST_CURVES, views

pytestmark = pytest.mark.e2e
PHASES = ("explore", "refine", "confirm")
SEARCHED = ("lr", "batch_size", "optimizer", "sgd.momentum", "weight_decay", "dropout", "schedule", "width")
AXES = ["log10_lr", "batch_size", "optimizer", "log10_weight_decay", "dropout", "schedule", "width", "best/val/loss"]
"""Of what the demo searches; momentum is SGD's alone."""
TABLE, CHARTS = "", "&compareRunsMode=CHART"
"""How a link to a view ends that opens its table, and as it is printed."""


@pytest.fixture
def runs(demo: Swept, mlflow_server: str) -> dict[str, str]:
    """The id of each run of the demo by its name, and of its experiment under an empty name."""
    experiment = json.loads(get(f"{mlflow_server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=digits"))
    number = experiment["experiment"]["experiment_id"]
    tables = f"{mlflow_server}/ajax-api/2.0/mlflow/runs/search"
    found = json.loads(post(tables, {"experiment_ids": [number], "max_results": 500}))["runs"]
    return {"": number, **{run["info"]["run_name"]: run["info"]["run_id"] for run in found}}


def printed(demo: Swept, words: str) -> str:
    """The link that the demo printed behind these words, below MLflow's address."""
    found = re.search(rf"^ +{words} http://127\.0\.0\.1:5000(\S+){CHARTS}$", demo.out, flags=re.MULTILINE)
    assert found, f"the demo printed no link behind {words!r}:\n{demo.out[-1500:]}"
    return found[1]


def show(page: Page, address: str, runs: int) -> None:
    """Open a view, so large that all of it is drawn, and wait until it has its runs."""
    page.set_viewport_size({"width": WIDE, "height": HIGH})
    page.goto(address)
    expect(page.get_by_text(f"{runs} matching runs")).to_be_visible()
    assert page.get_by_text("Error loading shared view state").count() == 0


def best_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """The lowest finite val/loss of each trial, and the first epoch that had it."""
    found: dict[str, tuple[float, int]] = {}
    for line in of_kind(lines, "report"):
        value = float(line["metrics"]["val/loss"])
        if math.isfinite(value):
            found[line["trial"]] = min(found.get(line["trial"], (math.inf, 0)), (value, line["epoch"]))
    return found


def curves_of(lines: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[float]]:
    """The finite values of each trial's reports."""
    found: dict[str, list[float]] = {}
    for line in of_kind(lines, "report"):
        if math.isfinite(value := float(line["metrics"][metric])):
            found.setdefault(line["trial"], []).append(value)
    return found


def test_mlflow_lists_the_sweep_and_its_trials(
    demo: Swept, mlflow_server: str, runs: dict[str, str], page: Page
) -> None:
    begun = {line["trial"] for line in of_kind(demo.journal, "trial")}
    assert runs.keys() == {"", demo.folder.name, *begun}
    address = f"{mlflow_server}/#/experiments/{runs['']}/runs?workflowType=machine_learning"
    show(page, address, len(begun) + 1)
    expect(page.get_by_role("link", name=demo.folder.name)).to_be_visible()
    screenshot(page, "mlflow-runs")
    names = set(page.get_by_role("link").all_inner_texts())
    assert names >= begun
    assert {name.partition("-")[0] for name in names & begun} == set(PHASES)


def test_the_first_view_has_the_trials_by_phase_the_best_first_with_the_journals_numbers(
    demo: Swept, mlflow_server: str, page: Page
) -> None:
    lines = demo.journal
    trials, best, ends = {line["trial"]: line for line in of_kind(lines, "trial")}, best_of(lines), ends_of(lines)
    show(page, mlflow_server + printed(demo, "then open") + TABLE, len(trials))
    expect(page.locator("[role=gridcell][col-id='params.`width`']").last).not_to_be_empty()
    rows = listed(page)
    screenshot(page, "mlflow-trials-table")
    assert {row["group"] for row in rows if "group" in row} == {f"{p} {len(trials_of(lines, p))}" for p in PHASES}
    shown = {row["name"]: row for row in rows if "name" in row}
    assert shown.keys() == trials.keys()
    for name, row in shown.items():
        value, epoch = best.get(name, ("-", "-"))
        assert (row["metrics.`best/val/loss`"], row["metrics.`best/epoch`"]) == (str(value), str(epoch)), name
        config = trials[name]["config"]
        found = {parameter: row[f"params.`{parameter}`"] for parameter in SEARCHED}
        assert found == {parameter: str(config.get(parameter, "-")) for parameter in SEARCHED}, name
        assert row["tags.`phase`"] == trials[name]["phase"]
        assert row["tags.`sweep.status`"] == ends[name]["status"]
        assert row["tags.`sweep.stop_reason`"] == ends[name]["reason"]
    for phase, group in groupby(shown, lambda name: str(trials[name]["phase"])):
        of_phase = trials_of(lines, phase)
        assert list(group) == sorted(of_phase, key=lambda name: best.get(name, (math.inf, 0))[0]), phase
    colours = {(trials[name]["phase"], row["colour"]) for name, row in shown.items()}
    assert len(colours) == len({colour for _, colour in colours}) == len(PHASES), "a colour for each phase"


def test_the_first_view_draws_what_was_searched_and_the_curve_of_every_trial(
    demo: Swept, mlflow_server: str, page: Page
) -> None:
    expected = curves_of(demo.journal, "val/loss")
    begun = {line["trial"] for line in of_kind(demo.journal, "trial")}
    show(page, mlflow_server + printed(demo, "then open") + CHARTS, len(begun))
    expect(page.get_by_text("Parallel Coordinates")).to_be_visible()
    assert curves(page, 0, len(expected)) == expected
    screenshot(page, "mlflow-trials")
    assert page.locator(".parcoords text.label").all_text_contents() == AXES


def test_the_second_view_compares_the_seeds(demo: Swept, mlflow_server: str, page: Page) -> None:
    lines = demo.journal
    confirm, best = trials_of(lines, "confirm"), best_of(lines)
    link = mlflow_server + printed(demo, "its seeds:")
    show(page, link + TABLE, len(confirm))
    expect(page.locator("[role=gridcell][col-id='tags.`seed`']").last).not_to_be_empty()
    rows = listed(page)
    screenshot(page, "mlflow-seeds-table")
    shown = {row["name"]: row for row in rows if "name" in row}
    assert {row["group"] for row in rows if "group" in row} == {f"{line['role']} 3" for line in confirm.values()}
    assert {
        name: (row["tags.`role`"], row["tags.`seed`"], float(row["metrics.`best/val/loss`"]))
        for name, row in shown.items()
    } == {name: (line["role"], str(line["fidelity"]["seed"]), best[name][0]) for name, line in confirm.items()}
    page.goto("about:blank")
    show(page, link + CHARTS, len(confirm))
    assert bars(page, 0) == {name: best[name][0] for name in confirm}
    expected = {name: curve for name, curve in curves_of(lines, "val/loss").items() if name in confirm}
    assert curves(page, 1, len(confirm)) == expected
    screenshot(page, "mlflow-seeds")


def test_the_sweeps_description_leads_to_its_views(
    demo: Swept, mlflow_server: str, runs: dict[str, str], page: Page
) -> None:
    page.goto(f"{mlflow_server}/#/experiments/{runs['']}/runs/{runs[demo.folder.name]}?workflowType=machine_learning")
    (verdict,) = of_kind(demo.journal, "verdict")
    expect(page.get_by_text(verdict["text"])).to_be_visible()
    screenshot(page, "mlflow-sweep")
    page.get_by_text("Show more").click()
    for name, count in (("All trials at a glance", len(runs) - 2), ("the seeds of the confirm phase", 9)):
        with page.context.expect_page() as opened:
            page.get_by_role("link", name=name).click()
        expect(opened.value.get_by_text(f"{count} matching runs")).to_be_visible()


def test_mlflows_page_of_compared_runs_has_the_journals_numbers(
    demo: Swept, mlflow_server: str, runs: dict[str, str], page: Page
) -> None:
    lines = demo.journal
    confirm, best = trials_of(lines, "confirm"), best_of(lines)
    last = {line["trial"]: line["metrics"] for line in of_kind(lines, "report")}
    page.set_viewport_size({"width": WIDE, "height": HIGH})
    ids, experiments = (quote(json.dumps(given)) for given in ([runs[name] for name in confirm], [runs[""]]))
    page.goto(f"{mlflow_server}/#/compare-runs?runs={ids}&experiments={experiments}")
    expect(page.get_by_title("Plot chart").first).to_be_visible()
    screenshot(page, "mlflow-compare")
    shown = compared(page)
    assert shown["Run Name:"] == list(confirm)
    names = {name for line in confirm.values() for name in line["config"]}
    for name in names:
        assert shown[name] == [str(line["config"].get(name, "")) for line in confirm.values()], name
    assert shown["role"] == [line["role"] for line in confirm.values()]
    assert shown["seed"] == [str(line["fidelity"]["seed"]) for line in confirm.values()]
    assert list(map(float, shown["best/val/loss"])) == pytest.approx([best[name][0] for name in confirm], abs=1e-3)
    measured = {name for name in shown if all(name in metrics for metrics in last.values())}
    assert len(measured) >= 4
    for name in measured:  # MLflow rounds them to three digits here
        expected = [float(last[trial][name]) for trial in confirm]
        assert list(map(float, shown[name])) == pytest.approx(expected, rel=1e-2, abs=1e-3), name


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


@pytest.fixture
def large(tmp_path: Path) -> History:
    """A sweep of more trials than MLflow draws: the recorded search, ten times over."""
    folder = tmp_path / "large"
    lines = [line for line in read(record(tmp_path / "pattern")) if line["kind"] != "end" or "trial" in line]
    searched = [line for line in lines if str(line.get("trial")).startswith("explore")]
    (folder / "journal").mkdir(parents=True)
    with open(folder / "journal" / "0001-0000.jsonl", "w") as journal:
        for line in lines[: lines.index(searched[0])]:
            journal.write(json.dumps(line) + "\n")
        for again in range(10):
            for line in searched:
                metrics = {name: spread(value, again) for name, value in line.get("metrics", {}).items()}
                more = {"metrics": metrics} if metrics else {}
                journal.write(json.dumps({**line, **more, "trial": f"{line['trial']}-{again}"}) + "\n")
    return History.open(folder)


def spread(value: Any, again: int) -> Any:
    """The value, a little lower each time."""
    return value if isinstance(value, str) else value - 0.001 * again


@pytest.fixture
def large_server(large: History, tmp_path: Path) -> Iterator[str]:
    """An MLflow that has it."""
    hub = tmp_path / "hub"
    hub.mkdir()
    sync(large.folder, f"sqlite:///{hub}/mlflow.db")
    with served(hub, free_port()) as address:
        yield address


def test_of_a_large_sweep_the_curves_are_those_of_the_best_and_it_says_so(
    large: History, large_server: str, page: Page
) -> None:
    best = {name: found[1] for name, trial in large.trials.items() if (found := trial.best("val/accuracy", "max"))}
    assert len(best) > MOST_CURVES
    page.set_viewport_size({"width": WIDE, "height": HIGH})
    page.goto(f"{large_server}/{views(large)[0].link('1')}")
    expect(page.get_by_text(f"large: trials, drawn are the best {MOST_CURVES}")).to_be_visible()
    shown = curves(page, 0, MOST_CURVES)
    screenshot(page, "mlflow-large")
    assert shown.keys() == set(sorted(best, key=best.__getitem__, reverse=True)[:MOST_CURVES])
