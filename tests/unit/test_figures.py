"""The figures say what the journal says: lines, points, labels and axes are read off the Figure objects."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.image import imread

from recorded import record
from sweeps.history import History
from sweeps.insight.curves import best_so_far, rank, top
from sweeps.journal import read
from sweeps.report import figures
from sweeps.report.figures import confirm, curves, parameters, progress, write
from sweeps.report.parameters import NEW, OLD, scale_of
from sweeps.report.style import PHASE_COLOURS
from sweeps.space import Space
from sweeps.spec import SweepSpec

METRIC = "val/accuracy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return record(tmp_path_factory.mktemp("runs") / "recorded")


@pytest.fixture
def lines(folder) -> list[dict]:
    return read(folder)


@pytest.fixture
def history(lines, tmp_path) -> History:
    history = History(tmp_path / "recorded")
    history.extend(lines)
    return history


@pytest.fixture
def begun(lines, tmp_path) -> History:
    """A sweep of which only the header and the plan are written."""
    history = History(tmp_path / "recorded")
    history.extend(lines[:2])
    return history


def words_of(figure: Figure) -> list[str]:
    """Every text of the legends."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def points(axes, colour: str) -> set[tuple[float, float]]:
    """The markers without a line that are drawn in a colour."""
    drawn = [line for line in axes.lines if line.get_linestyle() == "None" and same_color(line.get_color(), colour)]
    return {(float(x), float(y)) for line in drawn for x, y in zip(*line.get_data(), strict=True)}


def test_curves_show_loss_and_metric_for_train_and_validation_in_one_figure(history):
    figure = curves(history)
    loss, accuracy = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        drawn = {(line.get_linestyle(), *map(float, line.get_ydata())) for line in axes.lines if len(line.get_xdata())}
        for trial in top(history, 8):
            assert ("-", *(v for _, v in trial.curve(f"val/{name}"))) in drawn
            assert ("--", *(v for _, v in trial.curve(f"train/{name}"))) in drawn
    texts = words_of(figure)
    assert texts[:2] == ["validation", "train"]
    assert [text.split()[0] for text in texts[2:]] == [trial.trial for trial in top(history, 8)]
    assert "confirm-000 (baseline, seed 1)" in texts


def test_each_trial_has_one_colour_of_its_own(history):
    axes = curves(history).axes[1]
    by_colour: dict[str, int] = {}
    for line in axes.lines:
        by_colour[line.get_color()] = by_colour.get(line.get_color(), 0) + 1
    assert set(by_colour.values()) == {2}
    assert len(by_colour) == len(top(history, 8))


def test_curves_draw_one_fidelity_only(history):
    for trial in history.of_phase("refine"):
        trial.fidelity["data_fraction"] = 0.25
    assert all(text.startswith(("confirm", "validation", "train")) for text in words_of(curves(history)))


def test_a_loss_sweep_draws_the_loss_once_and_another_metric_beside_it(history):
    history.spec = SweepSpec.model_validate({**history.spec.document(), "metric": "val/loss", "mode": "min"})
    assert [axes.get_title() for axes in curves(history).axes] == ["loss", "accuracy"]


def test_progress_has_one_line_a_phase_labelled_with_its_fidelity(history):
    figure = progress(history)
    (axes,) = figure.axes
    assert "seconds" in axes.get_xlabel()
    assert axes.get_ylabel() == f"best {METRIC} of the phase"
    assert words_of(figure) == [
        "explore: 3 epochs, 50 % of the data",
        "refine: 9 epochs, all data",
        "confirm: 9 epochs, all data (best single seed)",
    ]
    for phase, line in best_so_far(history).items():
        (steps,) = [drawn for drawn in axes.lines if (drawn.get_label() or "").startswith(f"{phase}:")]
        assert same_color(steps.get_color(), PHASE_COLOURS[phase])
        assert [tuple(map(float, point)) for point in zip(*steps.get_data(), strict=True)] == line


def test_parameters_put_each_value_against_the_metric_at_one_fidelity(history):
    figure = parameters(history)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == history.spec.space.searched
    for phase in ("explore", "refine"):
        ranking = rank(history.of_phase(phase), METRIC, "max")
        expected = {(t.config["lr"], v) for t, v in zip(ranking.trials, ranking.values, strict=True)}
        assert points(panels["lr"], PHASE_COLOURS[phase]) == expected
        text = f"{phase}: {len(ranking.trials)} trials after epoch {ranking.epoch}, "
        assert [label for label in words_of(figure) if label.startswith(text)]
    sgd = [t for t in rank(history.of_phase("explore"), METRIC, "max").trials if "sgd.momentum" in t.config]
    assert len(points(panels["sgd.momentum"], PHASE_COLOURS["explore"])) == len(sgd)


def test_parameters_have_the_scale_of_their_domain(history):
    panels = {axes.get_title(): axes for axes in parameters(history).axes}
    scales = {name: panels[name].get_xscale() for name in history.spec.space.searched}
    assert scales == {
        "lr": "log",
        "batch_size": "log",
        "optimizer": "linear",
        "sgd.momentum": "function",
        "dropout": "linear",
    }
    assert [text.get_text() for text in panels["batch_size"].get_xticklabels()] == ["16", "32", "64", "128"]
    assert [text.get_text() for text in panels["optimizer"].get_xticklabels()] == ["sgd", "adamw"]


def test_parameters_shade_and_name_the_old_and_the_new_range(history):
    panels = {axes.get_title(): axes for axes in parameters(history).axes}
    change = next(c for c in history.phases["refine"].changes if c.parameter == "lr")
    assert panels["lr"].texts[0].get_text() == f"old range: {change.before}\nnew range: {change.after}"
    spans = {
        colour: patch
        for patch in panels["lr"].patches
        for colour in (OLD, NEW)
        if same_color(patch.get_facecolor(), colour)
    }
    for colour, space in ((OLD, history.spec.space), (NEW, history.phases["refine"].space)):
        low, high = space["lr"].span
        assert spans[colour].get_x() == pytest.approx(low)
        assert spans[colour].get_x() + spans[colour].get_width() == pytest.approx(high)
    assert panels["optimizer"].texts[0].get_text() == "range kept: sgd | adamw"
    assert len(panels["optimizer"].patches) == 2


def test_infeasible_trials_are_crosses_on_the_bottom_edge(history):
    axes = parameters(history).axes[0]
    (crosses,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert list(crosses.get_xdata()) == [history.trials["explore-003"].config["lr"]]
    assert all(0 <= y < 0.1 for y in crosses.get_ydata())
    assert crosses.get_transform() == axes.get_xaxis_transform()


def test_a_parameter_that_lost_its_parent_says_so(history):
    space = history.spec.space.replace({"optimizer": Space({"optimizer": ["adamw"]})["optimizer"]})
    history.phases["refine"].space = space
    history.phases["confirm"].space = space
    panels = {axes.get_title(): axes for axes in parameters(history).axes}
    assert "new range: none" in panels["sgd.momentum"].texts[0].get_text()
    assert len([p for p in panels["optimizer"].patches if same_color(p.get_facecolor(), NEW)]) == 1


def test_zero_of_a_logarithmic_range_has_a_place_of_its_own():
    domain = Space({"weight_decay": None})["weight_decay"]
    scale = scale_of([domain])
    assert scale.kind == "log"
    assert 0 < scale.place(0.0) < domain.span[0]
    assert scale.ticks[0] == (scale.place(0.0), "0")
    assert scale.place(1e-3) == 1e-3


def test_confirm_joins_equal_seeds_and_shows_mean_and_deviation(history):
    figure = confirm(history)
    (axes,) = figure.axes
    arms = {arm["arm"]: arm for arm in history.verdict["arms"]}
    order = [text.get_text().split()[0] for text in axes.get_xticklabels()]
    assert order[0] == "baseline"
    assert set(order) == set(arms)
    for n, seed in enumerate((1, 2, 3)):
        (line,) = [drawn for drawn in axes.lines if drawn.get_label() == f"seed {seed}"]
        assert list(line.get_ydata()) == [arms[arm]["values"][n] for arm in order]
    means = [container.lines[0].get_ydata()[0] for container in axes.containers]
    assert means == [pytest.approx(arms[arm]["mean"]) for arm in order]
    bars = [container.lines[2][0].get_segments()[0] for container in axes.containers]
    assert [(b[1][1] - b[0][1]) / 2 for b in bars] == [pytest.approx(arms[arm]["sd"]) for arm in order]
    assert any("(winner)" in text.get_text() for text in axes.get_xticklabels())


def test_confirm_bears_an_arm_with_a_missing_seed(history):
    arm = next(arm for arm in history.verdict["arms"] if arm["arm"] == "baseline")
    arm = {**arm, "seeds": [1, 3], "values": [arm["values"][0], "nan"], "mean": "nan", "sd": "nan"}
    others = [a for a in history.verdict["arms"] if a["arm"] != "baseline"]
    history.verdict = {**history.verdict, "arms": [arm, *others]}
    (axes,) = confirm(history).axes
    (line,) = [drawn for drawn in axes.lines if drawn.get_label() == "seed 2"]
    assert len(line.get_xdata()) == 2


def test_nothing_to_draw_is_none_and_no_file(begun, tmp_path):
    assert [draw(begun) for draw in (curves, progress, parameters, confirm)] == [None] * 4
    assert [draw(History(tmp_path)) for draw in (curves, progress, parameters, confirm)] == [None] * 4
    assert write(begun, tmp_path) == []
    assert not (tmp_path / "figures").exists()


def test_without_a_verdict_there_is_no_confirm_figure(history, tmp_path):
    paths = write(replace(history, verdict=None), tmp_path)
    assert [path.name for path in paths] == ["curves.png", "progress.png", "parameters.png"]


def test_write_leaves_pictures_with_something_on_them(history, tmp_path: Path):
    paths = write(history, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"figures/{name}.png" for name in ("curves", "progress", "parameters", "confirm")
    ]
    for path in paths:
        picture = imread(path)
        assert picture.shape[1] >= 800
        assert len({tuple(pixel) for row in picture[::7, ::7] for pixel in row}) > 5


def test_the_range_test_shows_a_line_and_a_range_for_each_optimizer(history):
    assert figures.lr_range(history) is None
    rates = [10.0**e for e in range(-6, 2)]
    for optimizer, low in (("sgd", 1e-2), ("adamw", None)):
        evidence = {
            "optimizer": optimizer, "rates": rates, "smoothed": [2.3, 2.3, 2.2, 2.0, 1.5, 1.0, 4.0, "inf"], "low": low,
            "high": low and 10 * low,
        }  # fmt: skip
        history.findings.append({"finding": "lr_range", "severity": "info", "message": "", "evidence": evidence})
    figure = figures.lr_range(history)
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["sgd: 0.01 … 0.1", "adamw"]
    assert len(axes.patches) == 1
    assert axes.get_xscale() == "log"
    figure.canvas.draw()
    assert {"1e-05", "0.1"} <= {label.get_text() for label in axes.get_xticklabels()}
    assert axes.get_ylim()[1] < 4.0, "what diverged does not flatten the rest"


def test_names_with_dollars_and_foreign_letters_are_drawn_as_they_are(lines, tmp_path):
    """matplotlib would read $…$ as mathematics and fail on it; 学 is not in its font."""
    history = History(tmp_path / "recorded")
    history.extend(lines)
    document = {**history.spec.document(), "baseline": None}
    document["space"] = {**document["space"], "odd$_{": ["$x_{", "学", "$"]}
    history.spec = SweepSpec.model_validate(document)
    for n, trial in enumerate(history.trials.values()):
        trial.config["odd$_{"] = ("$x_{", "学", "$")[n % 3]
    assert len(write(history, tmp_path)) == 4


def test_wild_losses_are_drawn_on_a_logarithmic_axis(history):
    for n, trial in enumerate(history.trials.values()):
        for epoch in trial.epochs:
            epoch.metrics["val/loss"] = 10.0 ** (n % 6)
    history.spec = SweepSpec.model_validate({**history.spec.document(), "metric": "val/loss", "mode": "min"})
    assert parameters(history).axes[0].get_yscale() == "log"
    assert math.isfinite(parameters(history).axes[0].get_ylim()[1])


def test_long_names_and_many_values_leave_the_panels_their_room(history):
    document = history.spec.document()
    names = [f"a_rather_long_name_{n}" for n in range(4)]
    history.spec = SweepSpec.model_validate({**document, "space": {**document["space"], "net": names}})
    for n, trial in enumerate(history.trials.values()):
        trial.config["net"] = names[n % 4]
    figure = parameters(history)
    figure.draw_without_rendering()
    panels = [axes.get_position().width for axes in figure.axes if axes.get_title()]
    assert min(panels) > 0.2
