"""The report: every number stands in the journal, nothing is loaded from elsewhere, text of users stays text."""

from __future__ import annotations

import base64
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recorded import record
from sweeps.errors import StorageError
from sweeps.history import History
from sweeps.journal import read
from sweeps.report.html import write
from sweeps.space import PLAYBOOK
from sweeps.spec import SweepSpec

VOID = {"meta", "br", "img", "hr", "link", "input"}
EVIL = "<script>alert('x')</script> & \"quotes\""


class Page(HTMLParser):
    """The page's sections: their text and their tables' cells; every tag and attribute; fails on broken nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._section = "head"
        self.feed(text)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["id"]
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "section":
            self._section = "head"

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.text[self._section] = self.text.get(self._section, "") + data
        if {"td", "th"} & set(self._open):
            self.rows[self._section][-1][-1] += data

    def row(self, section: str, first: str) -> list[str]:
        """The row of a section's tables that begins with a cell."""
        (found,) = [row for row in self.rows[section] if row[0] == first]
        return [" ".join(cell.split()) for cell in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return record(tmp_path_factory.mktemp("runs") / "recorded")


@pytest.fixture(scope="module")
def history(folder) -> History:
    return History.open(folder)


@pytest.fixture(scope="module")
def page(history, folder) -> Page:
    return Page(write(history, folder).read_text(encoding="utf-8"))


def until(folder: Path, kind: str, phase: str | None = None) -> History:
    """The sweep as it stood before the first such line."""
    lines = read(folder)
    cut = next(i for i, line in enumerate(lines) if line["kind"] == kind and phase in (None, line.get("phase")))
    history = History(folder)
    history.extend(lines[:cut])
    return history


def test_the_page_needs_nothing_beside_it(page):
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:image/png;base64,"[:5])
    assert [tag for tag, _ in page.tags].count("img") == 4


def test_embedded_figures_are_the_pngs_of_the_folder(page, folder):
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    files = [folder / "figures" / f"{name}.png" for name in ("curves", "progress", "parameters", "confirm")]
    for source, file in zip(pictures, files, strict=True):
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        assert data == file.read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert min(width, height) > 500


def test_the_verdict_gives_means_deviations_interval_and_test(page, history):
    text = " ".join(page.text["verdict"].split())
    line = history.verdict
    assert line["text"] in text
    comparison = line["comparison"]
    assert f"better than the baseline by {comparison['mean_difference']:+.3g} (95 % interval" in text
    assert f"{comparison['low']:+.3g} … {comparison['high']:+.3g}" in text
    assert "Test split read once" in text


def test_the_confirm_table_has_each_seeds_value(page, history):
    for arm in history.verdict["arms"]:
        won = arm["arm"] == history.verdict["winner"]
        row = page.row("verdict", f"{arm['arm']} (winner)" if won else arm["arm"])
        mean, sd = map(float, row[1].split(" ± "))
        assert mean == pytest.approx(arm["mean"], abs=1e-4)
        assert sd == pytest.approx(arm["sd"], rel=0.06)
        assert row[2] == " ".join(f"{s}: {v:.4g}" for s, v in zip(arm["seeds"], arm["values"], strict=True))
        tested = history.verdict["test"].get(arm["arm"])
        assert row[3].startswith("test/accuracy 0.9" if tested else "–")
        assert row[4] == ", ".join(arm["trials"])


def test_configs_stand_side_by_side_with_differences_marked(page, history):
    winner = next(arm for arm in history.verdict["arms"] if arm["arm"] == history.verdict["winner"])
    baseline = history.spec.baseline
    for name in history.spec.space:
        _, ours, theirs, differs = page.row("config", name)
        assert ours == (
            f"{winner['config'][name]:.4g}" if name in ("lr", "dropout") else str(winner["config"].get(name, ""))
        )
        assert theirs == (f"{baseline[name]:.4g}" if isinstance(baseline[name], float) else str(baseline[name]))
        assert differs == ("differs" if winner["config"].get(name) != baseline[name] else "")


def test_ranges_say_where_from_where_to_why_and_on_which_evidence(page, history):
    rows = {row[0]: row for row in page.rows["ranges"][1:]}
    assert set(rows) == set(history.spec.space.searched)
    for change in history.phases["refine"].changes:
        _, source, before, after, action, why = rows[change.parameter]
        assert (before, after, action, why) == (change.before, change.after, change.action, change.why)
        assert source == (PLAYBOOK["batch_size"].source if change.parameter == "batch_size" else source)
    assert rows["lr"][1] == "spec"
    trials = history.phases["refine"].comparison["trials"]
    evidence = f"Entering refine, on the evidence of {trials} trials of explore after epoch 3 on 50 % of the data:"
    assert evidence in " ".join(page.text["ranges"].split())


def test_plan_stands_beside_what_came(page, history):
    first, latest = history.plans
    for planned in latest["phases"]:
        trials = history.of_phase(planned["phase"])
        row = page.row("plan", planned["phase"])
        assert row[2] == f"{len(trials)} / {planned['trials']}"
        assert row[3] == str(sum(len(t.epochs) for t in trials))
        assert row[4] == f"{planned['expected_epochs']:.4g} (at most {planned['most_epochs']})"
        assert row[6] == f"{planned['seconds']:.{1 if planned['seconds'] < 9.95 else 0}f} s"
        assert row[8] == f"{sum(t.seconds for t in trials):.0f} s"
    assert page.row("plan", "explore")[5] == "–"  # nothing was measured yet when it began
    assert page.row("plan", "refine")[5] == "6.0 s"
    assert first["basis"] in page.text["plan"]
    assert latest["basis"] in page.text["plan"]


def test_cost_is_the_journals(page, history):
    assert page.row("cost", "trials")[1] == str(len(history.trials))
    assert page.row("cost", "epochs")[1] == str(sum(len(t.epochs) for t in history.trials.values()))
    assert page.row("cost", "wall time")[1] == "1 min 40 s on 2 slots"
    assert page.row("cost", "of it")[1] == "start-up 10 %, training 75 %, bookkeeping 15 %"


def test_every_trial_has_a_row_with_its_best_value(page, history):
    assert len(page.rows["trials"]) == 1 + len(history.trials)
    for trial in history.trials.values():
        row = page.row("trials", trial.trial)
        best = trial.best("val/accuracy", "max")
        assert row[1:5] == [trial.role, str(trial.fidelity["seed"]), trial.status, trial.reason]
        assert row[5] == f"{len(trial.epochs)} / {trial.fidelity['epochs']}"
        assert row[7] == (f"{best[1]:.4g} at {best[0]}" if best else "–")
        assert row[8] == f"{trial.config['lr']:.4g}"


def test_failures_findings_and_provenance_are_told(page, history):
    assert page.text["failures"].count("explore-005") == 4  # two attempts, each with its log
    assert "bad batch" in page.text["failures"]
    assert "logs/explore-005.log" in page.text["failures"]
    assert "two of the best five lie at the low edge" in page.text["findings"]
    assert page.row("provenance", "git commit")[1] == "0123abc"
    assert page.row("provenance", "versions")[1] == "torch 2.13.0, ray 2.60.0"
    assert page.row("provenance", "spec digest")[1] == history.spec.digest
    assert "trainable: trainables.examples.digits:Digits" in page.text["provenance"]


def test_batch_sizes_are_a_table_once_they_were_measured(page, folder, tmp_path):
    assert "batches" not in page.text
    history, lines = History(tmp_path), read(folder)
    for line in lines:
        history.apply(line)
    points = [
        {"batch_size": 64, "rows_per_second": 1234.5, "bytes": 300 * 2**20, "fits": True},
        {"batch_size": 128, "rows_per_second": None, "bytes": None, "fits": False},
    ]
    found = next(line for line in lines if line["kind"] == "finding")
    history.apply(
        {**found, "finding": "batch_size", "message": "as it is", "evidence": {"points": points, "workers": 2}}
    )
    page = Page(write(history, tmp_path).read_text(encoding="utf-8"))
    assert page.rows["batches"][1:] == [["128", "2,469", "300", "yes"], ["256", "–", "–", "no"]]
    assert "as it is" in page.text["batches"]


def test_times_are_the_journals(page, history, folder, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert Page(write(history, folder).read_text(encoding="utf-8")).text == page.text


def test_text_of_users_is_escaped_wherever_it_stands(folder, tmp_path):
    lines = read(folder)
    document = {**lines[0]["spec"], "baseline": None}
    document["space"] = {**document["space"], EVIL: [EVIL, "other"]}
    history = History(tmp_path)
    for line in lines:
        if line["kind"] == "sweep":
            line = {**line, "spec": document, "versions": {"torch": EVIL}}
        if line["kind"] == "phase":
            line = {**line, "changes": [{**change, "why": EVIL} for change in line["changes"]]}
        if line["kind"] == "trial":
            line = {**line, "config": {**line["config"], EVIL: EVIL}}
        if line["kind"] == "failure":
            line = {**line, "message": EVIL, "traceback": EVIL, "error": EVIL, "log": EVIL}
        if line["kind"] == "finding":
            line = {**line, "message": EVIL}
        if line["kind"] == "verdict":
            line = {**line, "text": EVIL}
        if line["kind"] == "end" and "trial" in line:
            line = {**line, "reason": EVIL}
        history.apply(line)
    text = write(history, tmp_path).read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(text)
    for section in ("verdict", "failures", "findings", "trials", "provenance", "ranges"):
        assert EVIL in page.text[section], section


def test_an_unfinished_sweep_says_so_and_shows_what_there_is(folder, tmp_path):
    page = Page(write(until(folder, "phase", "confirm"), tmp_path).read_text(encoding="utf-8"))
    assert "Unfinished: the journal has no end" in page.text["head"]
    assert "RUNNING" in page.text["head"]
    assert "verdict" not in page.text
    assert "one seed, not a result" in page.text["config"]
    assert page.row("plan", "confirm")[-1] == "not begun"
    assert "wall time" not in page.text["cost"]
    assert [tag for tag, _ in page.tags].count("img") == 3


def test_a_sweep_without_a_finished_trial_has_a_page(folder, tmp_path):
    for kind in ("plan", "phase", "report"):
        page = Page(write(until(folder, kind), tmp_path).read_text(encoding="utf-8"))
        assert "config" not in page.text
        assert "figures" not in page.text
        assert {row[4] for row in page.rows["ranges"][1:]} == {"as given"}


def test_a_halted_sweep_shows_its_reason_and_a_baseline_that_won_stays(folder, tmp_path):
    lines = read(folder)
    history = History(tmp_path)
    history.extend(lines[:-3])
    verdict = {**lines[-3], "verdict": "KEEP_BASELINE", "winner": "baseline", "text": "KEEP_BASELINE: no better."}
    history.apply({**verdict, "test": None, "test_reads": 0})
    history.apply({"kind": "end", "at": lines[-1]["at"], "status": "FAILED", "reason": "all alike\n  at line 3"})
    page = Page(write(history, tmp_path).read_text(encoding="utf-8"))
    assert "all alike\n  at line 3" in page.text["head"]
    assert "Test split not read." in " ".join(page.text["verdict"].split())
    assert page.row("verdict", "baseline (winner)")
    assert "The baseline won" in page.text["config"]


def test_a_sweep_without_a_baseline_trial_has_no_baseline_column(folder, tmp_path):
    history = until(folder, "phase", "refine")
    del history.trials["explore-000"]
    page = Page(write(history, tmp_path).read_text(encoding="utf-8"))
    assert len(page.row("config", "lr")) == 2


def test_an_empty_journal_is_refused_with_a_mend(tmp_path):
    with pytest.raises(StorageError, match="journal is empty"):
        write(History(tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_spec_shown_is_the_spec(page, history):
    from ruamel.yaml import YAML

    block = page.text["provenance"].split("generation 1")[1]
    assert SweepSpec.model_validate(YAML(typ="safe").load(block)) == history.spec


def test_a_report_that_cannot_be_written_leaves_the_old_one_and_says_so(folder, monkeypatch):
    history = History.open(folder)
    page = write(history, folder)
    before = page.read_bytes()

    def full(path, text, encoding):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(StorageError, match=r"report: cannot write .*No space left on device\. Free space or mend it"):
        write(history, folder)
    assert page.read_bytes() == before
