"""The saved views of MLflow's pages, from the recorded journal alone; tests/e2e opens them in a browser."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from recorded import record
from sweeps.history import History
from sweeps.journal import read
from sweeps.spec import Confirm
from sweeps.tracking import views as module
from sweeps.tracking.uris import default_uri
from sweeps.tracking.views import described, other_version, pages, views

MAX_TAG = 20_000
"""Characters of an experiment's tag that MLflow takes."""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History.open(record(tmp_path_factory.mktemp("runs") / "recorded"))


def unpacked(value: str) -> dict[str, Any]:
    """The state in a tag's value, as MLflow unpacks it."""
    state = json.loads(value)["state"]
    assert state.startswith("deflate;")
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(state.removeprefix("deflate;"))))
    return found


def test_the_trials_sorted_by_their_best_with_what_was_searched(history: History) -> None:
    state = unpacked(views(history)[0].value(0))
    assert state["searchFilter"] == 'tags.`sweep.id` = "recorded" AND tags.`sweep.kind` = "trial"'
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val/accuracy`", False)
    parallel, curves = state["compareRunCharts"]
    assert parallel["type"] == "PARALLEL"
    assert parallel["selectedParams"] == ["log10_lr", "batch_size", "optimizer", "dropout"], "what all trials have"
    assert parallel["selectedMetrics"] == ["best/val/accuracy"]
    assert (curves["type"], curves["metricKey"], curves["scaleType"]) == ("LINE", "val/accuracy", "linear")
    assert {card["metricSectionId"] for card in (parallel, curves)} == {s["uuid"] for s in state["compareRunSections"]}
    shown = [column for column in state["selectedColumns"] if column.startswith("params")]
    assert shown == [f"params.`{name}`" for name in ("lr", "batch_size", "optimizer", "dropout", "sgd.momentum")]
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "phase"}]


def test_a_loss_has_a_logarithmic_axis_where_it_is_positive(history: History) -> None:
    assert history.spec is not None
    lossy = History(history.folder)
    lossy.extend(read(history.folder))
    lossy.spec = history.spec.model_copy(update={"metric": "val/loss", "mode": "min"})
    assert views(lossy)[0].state["compareRunCharts"][1]["scaleType"] == "log"
    next(iter(lossy.trials.values())).epochs[0].metrics["val/loss"] = -0.1
    assert views(lossy)[0].state["compareRunCharts"][1]["scaleType"] == "linear"


def test_of_many_trials_it_says_that_only_the_best_are_drawn(history: History) -> None:
    assert history.spec is not None
    (section,) = views(history)[0].state["compareRunSections"]
    assert section["name"] == "recorded: trials"
    large = History(history.folder)
    large.extend(read(history.folder))
    large.trials |= {f"{name}-{n}": trial for n in range(5) for name, trial in large.trials.items()}
    (section,) = views(large)[0].state["compareRunSections"]
    assert section["name"] == "recorded: trials, drawn are the best 100"


def test_the_seeds_have_a_view_once_they_are_there(history: History) -> None:
    _, seeds = views(history)
    assert unpacked(seeds.value(0))["searchFilter"].endswith('AND tags.phase = "confirm"')
    searching = History(history.folder)
    lines = read(history.folder)
    searching.extend(lines[: next(i for i, line in enumerate(lines) if line.get("phase") == "refine")])
    assert [view.key for view in views(searching)] == [views(history)[0].key]


def test_a_view_is_the_same_each_time_and_fits_its_tag(history: History) -> None:
    first, again = views(history), views(history)
    assert [view.value(7) for view in first] == [view.value(7) for view in again]
    assert len({view.key for view in first}) == 2
    assert all(len(view.value(7)) < MAX_TAG / 4 for view in first)


def test_of_two_confirm_phases_the_last_one_is_shown(history: History) -> None:
    assert history.spec is not None
    again = History(history.folder)
    again.extend(read(history.folder))
    phases = [*history.spec.phases, Confirm(kind="confirm", name="again")]
    again.spec = history.spec.model_copy(update={"phases": phases})
    assert [view.value(7) for view in views(again)] == [view.value(7) for view in views(history)], "it has not begun"
    next(trial for trial in again.of_phase("confirm")).phase = "again"
    _, seeds = views(again)
    assert seeds.key == views(history)[1].key
    assert seeds.state["searchFilter"].endswith('AND tags.phase = "again"')


def opened(history: History, address: str, experiment: int) -> list[str]:
    """What is printed of the views at that address."""
    links = [
        f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning"
        f"&viewStateShareKey={view.key}&compareRunsMode=CHART"
        for view in views(history)
    ]
    return [f"then open {links[0]}", f"its seeds: {links[1]}"]


def test_the_pages_of_a_sweeps_own_database_and_of_another(history: History, tmp_path: Path) -> None:
    assert pages(history, default_uri(history.folder)) == opened(history, "http://127.0.0.1:5000", 1)
    assert pages(history, f"sqlite:///{tmp_path}/mlflow.db") == [], "which experiment that has is not known"


def test_a_description_links_to_them_from_within_mlflow(history: History) -> None:
    said = described(history, "7")
    assert said.startswith("[All trials at a glance](#/experiments/7/runs?workflowType=")
    assert all(view.link("7") in said for view in views(history))


@contextmanager
def mlflow(version: str) -> Iterator[str]:
    """A server that says it is this MLflow, in which the sweep's experiment has the number 3; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bodies = {"/version": version, "/api/2.0/mlflow/experiments/get-by-name": FOUND}
            body = bodies.get(self.path.partition("?")[0], "")
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


FOUND = '{"experiment": {"experiment_id": "3"}}'


@pytest.mark.parametrize("version", [f"{module.READ_FROM}.9", "", "<html>sign in</html>"])
def test_a_server_of_the_known_version_or_that_does_not_say_needs_no_warning(history: History, version: str) -> None:
    with mlflow(version) as address:
        assert pages(history, address) == opened(history, address, 3)


def test_of_another_version_of_mlflow_a_person_is_warned(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow("4.0.1rc1") as address:
        warning = f"made for MLflow {module.READ_FROM}: 4.0.1rc1 may show its usual table instead"
        assert pages(history, address) == [*opened(history, address, 3), f"({warning})"]
    assert other_version(default_uri(history.folder)) == "", "the one that is installed is the one that was read"
    monkeypatch.setattr(module, "READ_FROM", "3.16")
    assert other_version(default_uri(history.folder)).startswith("made for MLflow 3.16: 3.17.")
