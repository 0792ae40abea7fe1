"""The saved views of MLflow's pages, from the recorded journal alone; tests/e2e opens them in a browser."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from recorded import record
from sweeps.history import History
from sweeps.journal import read
from sweeps.tracking.uris import default_uri
from sweeps.tracking.views import page, views

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
    assert state["searchFilter"] == 'tags.sweep = "recorded" AND tags.`sweep.kind` = "trial"'
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val/accuracy`", False)
    parallel, curves = state["compareRunCharts"]
    assert parallel["type"] == "PARALLEL"
    assert parallel["selectedParams"] == ["log10_lr", "batch_size", "optimizer", "dropout"], "what all trials have"
    assert parallel["selectedMetrics"] == ["best/val/accuracy"]
    assert (curves["type"], curves["metricKey"]) == ("LINE", "val/accuracy")
    assert {card["metricSectionId"] for card in (parallel, curves)} == {s["uuid"] for s in state["compareRunSections"]}
    assert "params.`lr`" in state["selectedColumns"]
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "phase"}]


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


def test_the_page_of_a_sweeps_own_database_and_of_another(history: History, tmp_path: Path) -> None:
    key = views(history)[0].key
    assert page(history, default_uri(history.folder)) == (
        "http://127.0.0.1:5000/#/experiments/1/runs"
        f"?workflowType=machine_learning&viewStateShareKey={key}&compareRunsMode=CHART"
    )
    assert page(history, f"sqlite:///{tmp_path}/mlflow.db") == "", "which experiment that has is not known"
