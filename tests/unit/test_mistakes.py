"""What an error analysis says: in words, as a finding, and in the report, of real trainings."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict
from typing import Any

import pytest
import torch
from PIL import Image

from recorded import record
from sweeps.history import History
from sweeps.insight.mistakes import in_words, overconfidence
from sweeps.report import figures
from sweeps.report.html import write
from trainables.contract import Data, Fidelity, Session, resolve
from trainables.error_analysis import error_analysis
from trainables.examples.digits import Digits
from unit.test_html import Page
from unit.trainable_helpers import Blobs, Line

NOTHING: dict[str, Any] = {
    "split": "val", "rows": 100, "worst": [{"row": 7, "loss": 2.0}], "classes": [], "pairs": [], "confident": [],
    "unsure": [], "calibration": None, "bias": None, "pictures": [],
}  # fmt: skip


def sure(confidence: float, accuracy: float, leaning: str = "overconfident") -> dict[str, Any]:
    """What is found of a model whose rows are all alike."""
    seen = {"confidence": confidence, "accuracy": accuracy, "ece": abs(confidence - accuracy), "leaning": leaning}
    return {**NOTHING, "calibration": {**seen, "bins": []}}


def found_of(trainable: Any, epochs: int = 2, **config: Any) -> dict[str, Any]:
    """The evidence of a trainable that was trained, as the journal has it."""
    session = Session(Fidelity(epochs))
    list(resolve(trainable)(config, session))
    found = error_analysis(trainable, config, Session(Fidelity(epochs), state=session.capture()))
    evidence: dict[str, Any] = json.loads(json.dumps(asdict(found), allow_nan=False))
    return evidence


@pytest.fixture(scope="module")
def digits() -> dict[str, Any]:
    return found_of(Digits(), lr=1e-3, batch_size=64, width=4, depth=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return record(tmp_path_factory.mktemp("runs") / "recorded")


def reported(folder, at, evidence):
    """The page of a sweep whose winner errs so."""
    history = History.open(folder)
    history.apply(
        {
            "kind": "finding", "at": 1.8e9, "finding": "errors", "severity": "info", "message": in_words(evidence),
            "phase": "confirm", "trial": "confirm-002", "evidence": evidence,
        }
    )  # fmt: skip
    return Page(write(history, at).read_text(encoding="utf-8")), history


def test_words_name_the_worst_class_the_pair_and_the_row():
    found = {
        **NOTHING,
        "classes": [{"label": 3, "rows": 40, "recall": 0.7, "precision": 0.9, "taken_for": 8}],
        "pairs": [{"label": 5, "taken_for": 8, "rows": 9, "share": 0.225}],
        "worst": [{"row": 7, "loss": 4.25, "target": 3, "predicted": 8}],
    }
    assert in_words(found) == (
        "class 3 has the lowest recall, 0.7 of 40 rows; the most frequent confusion is 5 taken for 8, in 9 rows (22 % "
        "of that class); the highest loss is 4.25, in row 7 (3, taken for 8)"
    )


def test_words_of_what_has_no_errors_or_no_classes():
    whole = [{"label": 0, "rows": 4, "recall": 1.0, "precision": 1.0, "taken_for": None}]
    assert in_words({**NOTHING, "classes": whole}) == "the highest loss is 2, in row 7"
    assert in_words({**NOTHING, "bias": -0.5}).endswith("predictions are 0.5 too low on average")
    assert "none of single rows" in in_words({**NOTHING, "worst": []})


def test_poor_calibration_is_told_and_good_one_is_not():
    assert "expected calibration error 0.2" in in_words(sure(0.9, 0.7))
    assert "underconfident" in in_words(sure(0.7, 0.9, "underconfident"))
    for seen in (sure(0.9, 0.85), sure(0.9, 0.7, leaning="")):
        assert "calibration" not in in_words(seen)


def test_overconfidence_is_a_finding_with_its_remedy():
    found = overconfidence(sure(0.95, 0.8), {"lr": 0.1})
    assert (found.finding, found.severity) == ("overconfident", "warn")
    assert found.evidence == pytest.approx({"ece": 0.15, "confidence": 0.95, "accuracy": 0.8})
    assert "label_smoothing 0.1 (it is 0)" in found.message
    assert "temperature" in found.message
    assert "label_smoothing 0.2 (it is 0.15)" in overconfidence(sure(0.95, 0.8), {"label_smoothing": 0.15}).message
    assert "label_smoothing" not in overconfidence(sure(0.95, 0.8), {"label_smoothing": 0.2}).message


@pytest.mark.parametrize(
    "found", [sure(0.95, 0.86), sure(0.7, 0.9, "underconfident"), sure(0.95, 0.8, leaning=""), NOTHING],
    ids=["below the limit", "not sure enough", "by chance", "no classes"],
)  # fmt: skip
def test_no_other_calibration_is_one(found):
    assert overconfidence(found, {}) is None


def test_a_network_that_is_sure_of_wrong_labels_is_overconfident():
    class Mislabelled(Blobs):
        """A third of the validation labels are others than training taught."""

        def data(self, config, fidelity):
            data = super().data(config, fidelity)
            x, y = data.val
            return Data(data.train, (x, torch.where(torch.arange(len(y)) % 3 == 0, (y + 1) % 3, y)))

    wrong, right = (found_of(made(val=120), epochs=8, lr=0.01, batch_size=8) for made in (Mislabelled, Blobs))
    assert overconfidence(wrong, {}).evidence["ece"] > 0.2
    assert overconfidence(right, {}) is None


def test_the_report_shows_all_of_it_with_pictures_of_the_right_rows(folder, tmp_path, digits):
    page, history = reported(folder, tmp_path, digits)
    cells = page.rows["errors"]
    pair = digits["pairs"][0]
    share = f"{100 * pair['share']:.0f} %"
    assert [str(pair["label"]), str(pair["taken_for"]), str(pair["rows"]), share] in cells
    for kind in ("worst", "confident", "unsure"):
        for row in digits[kind]:
            wanted = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
            assert wanted in [cell[: len(wanted)] for cell in cells]
    assert "Expected calibration error" in page.text["errors"]
    shown = {a["alt"]: a["src"] for tag, a in page.tags if tag == "img" and a.get("class") == "row"}
    assert shown == {f"row {p['row']}": f"data:image/png;base64,{p['png']}" for p in digits["pictures"]}
    image = Image.open(io.BytesIO(base64.b64decode(digits["pictures"][0]["png"])))
    assert (image.format, image.size, image.mode) == ("PNG", (8, 8), "L")
    assert (tmp_path / "figures" / "calibration.png").is_file()
    assert figures.calibration(history).axes[0].get_title() == (
        f"Expected calibration error {digits['calibration']['ece']:.4g}"
    )


def test_the_figure_has_the_bins(folder, tmp_path, digits):
    _, history = reported(folder, tmp_path, digits)
    above, below = figures.calibration(history).axes
    bins = digits["calibration"]["bins"]
    assert [bar.get_height() for bar in above.patches] == [one["accuracy"] for one in bins]
    assert [bar.get_height() for bar in below.patches] == [one["rows"] for one in bins]
    assert sum(one["rows"] for one in bins) == digits["rows"]


def test_the_report_of_a_regression_and_of_a_loss_of_its_own(folder, tmp_path):
    page, history = reported(folder, tmp_path, line := found_of(Line(), lr=1e-3))
    assert f"{abs(line['bias']):.4g} too {'high' if line['bias'] > 0 else 'low'}" in page.text["errors"]
    assert figures.calibration(history) is None
    assert "confusions" not in page.text["errors"]

    class Own(Blobs):
        def loss(self, output, batch):
            return torch.nn.functional.multi_margin_loss(output, batch[1])

    page, _ = reported(folder, tmp_path, found_of(Own(), lr=1e-3))
    assert page.rows["errors"][0] == ["row", "loss"]
    assert len(page.rows["errors"]) == 13
    page, _ = reported(folder, tmp_path, {**NOTHING, "worst": []})
    assert "errors" not in page.rows


def test_an_analysis_is_a_small_line(digits):
    assert len(json.dumps(digits)) < 20_000
