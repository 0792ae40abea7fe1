"""The pages that MLflow's UI is to open on: its own table hides a sweep behind what a language model's user wants.

A view is a tag of the experiment, `mlflow.sharedViewState.<key>`, that MLflow writes when a person shares what they
see, and a link that names the key. The format is MLflow's own affair, read from the script of one version: a browser
test guards it, of another version a person is warned, and a UI that does not understand it shows its usual table.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from sweeps.history import History
from sweeps.space import Constant, Domain, Float
from sweeps.spec import phase_name
from sweeps.tracking.runs import legal
from sweeps.tracking.uris import default_uri, experiment_id, is_server, open_command, server_version

READ_FROM = "3.17"
"""The MLflow whose script tells the format; the patches of a minor version keep it."""
MOST_CURVES = 100
"""Trials of which MLflow draws curves: so many does its table load at first."""
MOST_PARAMETERS = 12
"""Axes of the parallel coordinates, and columns of the table, before nobody can read them."""


@dataclass(frozen=True)
class View:
    """A saved view of a sweep's runs."""

    key: str
    """Names it in links."""
    name: str
    state: dict[str, Any]

    @property
    def tag(self) -> str:
        """The name of the experiment's tag."""
        return f"mlflow.sharedViewState.{self.key}"

    def value(self, at: int) -> str:
        """The tag's value; `at` is when the view was made, in milliseconds."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state).encode(), 9)).decode()
        return json.dumps({"name": self.name, "createdAt": at, "updatedAt": at, "state": f"deflate;{packed}"})

    def link(self, experiment: str) -> str:
        """What opens it, below MLflow's address; by itself from any of MLflow's pages."""
        query = f"workflowType=machine_learning&viewStateShareKey={self.key}&compareRunsMode=CHART"
        return f"#/experiments/{experiment}/runs?{query}"


def views(history: History) -> list[View]:
    """The sweep's views: all its trials, and the seeds that confirmed it last where there are any."""
    assert history.spec is not None
    confirm = [phase_name(phase) for phase in history.spec.phases if phase.kind == "confirm"]
    begun = [phase for phase in confirm if history.of_phase(phase)]
    return [trials_view(history), *(seeds_view(history, phase) for phase in begun[-1:])]


def pages(history: History, uri: str) -> list[str]:
    """The lines that tell a person where MLflow shows the sweep; none when that is not known.

    In a sweep's own database, opened by the command that is printed, the experiment is the first after MLflow's default
    one; a server is asked.
    """
    assert history.spec is not None
    server, experiment = "http://127.0.0.1:5000", "1"
    if uri != default_uri(history.folder):
        server, experiment = open_command(history.folder, uri), experiment_id(uri, history.spec.name)
    if not experiment:
        return []
    said = [
        f"{words} {server.rstrip('/')}/{view.link(experiment)}"
        for words, view in zip(("then open", "its seeds:"), views(history), strict=False)
    ]
    return said + [f"({warning})" for warning in [other_version(uri)] if warning]


def other_version(uri: str) -> str:
    """A warning when MLflow's pages there are of another version than the views were made for; else empty.

    A database is opened by the MLflow that is installed here; a server is asked, and one that does not say is trusted.
    """
    found = server_version(uri) if is_server(uri) else version("mlflow")
    if not found or found.split(".")[:2] == READ_FROM.split("."):
        return ""
    return f"made for MLflow {READ_FROM}: {found} may show its usual table instead"


def described(history: History, experiment: str) -> str:
    """The links to the views for a description in MLflow."""
    names = ("All trials at a glance", "the seeds of the confirm phase")
    found = zip(names, views(history), strict=False)
    return ", ".join(f"[{name}]({view.link(experiment)})" for name, view in found) + "."


def trials_view(history: History) -> View:
    """Trials only, the best first: parallel coordinates of what was searched, and curves of the best."""
    assert history.spec is not None
    metric = history.spec.metric
    varied = {name: domain for name, domain in history.spec.space.root.items() if not isinstance(domain, Constant)}
    name = f"{history.name}: trials"
    title = f"{name}, drawn are the best {MOST_CURVES}" if len(history.trials) > MOST_CURVES else name
    charts = [
        {"type": "PARALLEL", "selectedParams": axes(varied), "selectedMetrics": [best(metric)], "showAllRuns": True},
        line(history),
    ]
    columns = [
        *(column("tags", name) for name in ("phase", "sweep.status", "sweep.stop_reason")),
        column("metrics", best(metric)),
        column("metrics", "best/epoch"),
        *(column("params", legal(name)) for name in list(varied)[:MOST_PARAMETERS]),
    ]
    return view(history, "trials", name, title, "", charts, columns, "phase")


def seeds_view(history: History, phase: str) -> View:
    """The trials of the confirm phase: each arm's values over its seeds."""
    assert history.spec is not None
    metric = history.spec.metric
    charts = [
        {"type": "BAR", "metricKey": best(metric)},
        line(history),
    ]
    columns = [
        *(column("tags", name) for name in ("role", "seed")),
        column("metrics", best(metric)),
        column("metrics", "best/epoch"),
    ]
    name, of_phase = f"{history.name}: seeds", f' AND tags.phase = "{phase}"'
    return view(history, "seeds", name, name, of_phase, charts, columns, "role")


def view(
    history: History,
    kind: str,
    name: str,
    title: str,
    more: str,
    charts: Sequence[dict[str, Any]],
    columns: Sequence[str],
    grouped: str,
) -> View:
    """A view of the sweep's trials, `more` of a filter beside, in groups by a tag but drawn one by one.

    `title` stands over the charts: MLflow itself gives each the name of its metric, whatever a view says.
    """
    assert history.spec is not None
    section = "sweep"
    cards = [
        {"uuid": f"{kind}-{n}", "metricSectionId": section, "isGenerated": False, "deleted": False, **chart}
        for n, chart in enumerate(charts)
    ]
    state = {
        "searchFilter": f'tags.`sweep.id` = "{history.id}" AND tags.`sweep.kind` = "trial"{more}',
        "orderByKey": column("metrics", best(history.spec.metric)),
        "orderByAsc": history.spec.mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "runsHiddenMode": "SHOW_ALL",
        "runsHidden": [],
        "runsPinned": [],
        "runsVisibilityMap": {},
        "runsExpanded": {},
        "groupsExpanded": {},
        "columnOrder": [],
        "columnWidths": {},
        "compareRunCharts": cards,
        "compareRunSections": [
            {
                "uuid": section,
                "name": title,
                "columns": 1,
                "cardHeight": 420,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "isAccordionReordered": True,
        "viewMaximized": False,
        "runListHidden": False,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": grouped}]},
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    return View(key_of(history.id, kind), name, state)


def key_of(sweep: str, kind: str) -> str:
    """The key of a sweep's view."""
    return hashlib.sha256(f"{sweep} {kind}".encode()).hexdigest()[:32]


def line(history: History) -> dict[str, Any]:
    """A chart of the metric's curves.

    Of a loss with a logarithmic axis, where it has one: else a single trial that diverged makes all others one line.
    """
    assert history.spec is not None
    metric, values = history.spec.metric, (trial.curve(history.spec.metric) for trial in history.trials.values())
    log = history.spec.mode == "min" and not any(value <= 0 for curve in values for _, value in curve)
    return {
        "type": "LINE", "metricKey": legal(metric), "selectedMetricKeys": [legal(metric)], "xAxisKey": "step",
        "selectedXAxisMetricKey": "", "xAxisScaleType": "linear", "scaleType": "log" if log else "linear", "range": {},
        "yAxisKey": "metric", "yAxisExpressions": [], "ignoreOutliers": False, "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True, "lineSmoothness": 0, "runsCountToCompare": MOST_CURVES,
    }  # fmt: skip


def best(metric: str) -> str:
    """The metric that holds a trial's best value."""
    return legal(f"best/{metric}")


def column(kind: str, name: str) -> str:
    """A column as the table names it."""
    return f"{kind}.`{name}`"


def axes(varied: Mapping[str, Domain]) -> list[str]:
    """The params of what was searched that MLflow's parallel coordinates show: on a logarithmic scale the logarithm.

    Without those that not every trial has: MLflow would leave out the trials without one of its axes.
    """
    found = [
        legal(f"log10_{name}" if isinstance(domain, Float) and domain.scale == "log" else name)
        for name, domain in varied.items()
        if not domain.when
    ]
    return found[:MOST_PARAMETERS]
