"""Which checkpoints stay, on real folders, report by report and end by end as the driver goes."""

from __future__ import annotations

import pytest

from sweeps.history import Record
from sweeps.insight.curves import rank
from sweeps.journal import FORMAT
from sweeps.retention import MANIFEST, Keeper, kept
from sweeps.spec import SweepSpec
from sweeps.storage import files, opened, place, remove

SEARCH = {"space": {"root": {}}, "changes": [], "comparison": None, "trials": 4}


class Driver:
    """Writes a sweep's journal and its checkpoints, and calls the keeper as a phase does."""

    def __init__(self, folder, keep=2, mode="min"):
        self.folder, self.record = folder, Record(folder)
        spec = SweepSpec(
            trainable="a:b", space={"x": [1, 2]}, metric="m", mode=mode, baseline={"x": 1}, keep_checkpoints=keep
        )
        self.write(
            "sweep", format=FORMAT, name=folder.name, spec=spec.document(), spec_digest="", generation=1, git=None,
            versions={}, hardware={}, began=0.0, ready=0.0,
        )  # fmt: skip
        self.space = spec.space.model_dump(mode="json", by_alias=True)
        self.keeper = Keeper(self.record)

    def write(self, kind, **fields):
        self.record.write(kind, **fields)

    def phase(self, name, kind="explore"):
        self.write("phase", phase=name, phase_kind=kind, **{**SEARCH, "space": self.space})

    def checkpoint(self, trial, epoch):
        pointer = f"checkpoints/{trial}/{epoch}"
        for name in ("model.pt", "rest.pt", MANIFEST):
            filesystem, path = opened(self.folder / pointer / name)
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(name.encode())
        return pointer

    def trial(self, name, values, status="FINISHED", every=1, fraction=1.0, epochs=3, whole=None):
        """A trial with these values of `m` after its epochs, to its end or still at work."""
        phase = name.partition("-")[0]
        self.write(
            "trial", phase=phase, trial=name, attempt=1, role="sobol", config={"x": 1},
            fidelity={"epochs": epochs, "data_fraction": fraction, "seed": 0},
        )  # fmt: skip
        for epoch, value in enumerate(values, 1):
            due = epoch % every == 0 or epoch == len(values)
            pointer = self.checkpoint(name, epoch) if due else None
            metrics = {"other": 1.0} if value is None else {"m": value}
            self.write(
                "report", trial=name, attempt=1, epoch=epoch, metrics=metrics, checkpoint=pointer, seconds=1.0, slot=7
            )
            self.keeper.reported(self.record.history.trials[name])
        if status != "RUNNING":
            whole = len(values) >= epochs if whole is None else whole
            self.write("end", trial=name, status=status, reason="", seconds=0.0, whole=whole)
            self.keeper.ended(self.record.history.trials[name])

    def left(self):
        """Trials and epochs whose checkpoint is there, whole, and no litter beside them."""
        found = files(self.folder / "checkpoints")
        whole = sorted(path.removesuffix(f"/{MANIFEST}") for path, _ in found if path.endswith(MANIFEST))
        assert len(found) == 3 * len(whole)
        return whole


@pytest.fixture
def driver(tmp_path):
    """Makes drivers, ended after the test."""
    made = []

    def make(folder=tmp_path, **options):
        made.append(Driver(folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.record.close()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_live_trial_keeps_its_newest_only(driver, every):
    sweep = driver()
    sweep.phase("explore")
    sweep.trial("explore-1", [0.3, 0.2], "RUNNING")
    sweep.trial("explore-2", [0.1] * 8, "RUNNING", every=every)
    assert sweep.left() == ["explore-1/2", "explore-2/8"]


@pytest.mark.parametrize(("mode", "best"), [("min", ["b/3", "d/3"]), ("max", ["a/3", "d/3"])])
def test_the_best_few_of_those_trained_longest_stay(driver, mode, best):
    sweep = driver(mode=mode)
    sweep.phase("explore")
    for name, values in {
        "a": [9, 9, 0.9],
        "b": [9, 9, 0.1],
        "c": [0.0 if mode == "min" else 99.0],
        "d": [9, 9, 0.5],
    }.items():
        sweep.trial(f"explore-{name}", values)
    assert sweep.left() == [f"explore-{name}" for name in best]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_of_equals_the_first_stays_which_is_the_one_that_is_called_best(driver, order):
    sweep = driver(keep=1)
    sweep.phase("explore")
    for number in order:
        sweep.trial(f"explore-{number}", [0.5] * 3)
    assert sweep.left() == ["explore-0/3"]
    assert rank(sweep.record.history.trials.values(), "m", "min", enough=1).trials[0].trial == "explore-0"


def test_what_the_storage_will_not_remove_stays_and_is_told_once(driver, monkeypatch):
    sweep = driver(keep=1)
    sweep.phase("explore")

    def denied(folder, first):
        raise PermissionError("When deleting: ACCESS_DENIED. Detail: [errno 13]")

    monkeypatch.setattr("sweeps.retention.remove", denied)
    for number in range(3):
        sweep.trial(f"explore-{number}", [0.5 - 0.1 * number] * 2)
    (finding,) = sweep.record.history.findings
    assert (finding["finding"], finding["severity"]) == ("checkpoints_stay", "warn")
    assert "ACCESS_DENIED. May this user delete there?" in finding["message"]
    monkeypatch.undo()
    sweep.keeper.clean()
    assert sweep.left() == ["explore-2/2"]


def test_the_bound_is_the_sweeps_not_the_phases(driver):
    sweep = driver(keep=3)
    sweep.phase("explore")
    for number in range(5):
        sweep.trial(f"explore-{number}", [0.1 * number] * 3, fraction=0.5)
    assert sweep.left() == ["explore-0/3", "explore-1/3", "explore-2/3"]
    sweep.phase("refine", "refine")
    for number in range(5):
        sweep.trial(f"refine-{number}", [1.0 + number] * 9, epochs=9)
        assert len(sweep.left()) == 3
    assert sweep.left() == ["refine-0/9", "refine-1/9", "refine-2/9"]


def test_the_newest_searchs_best_stays_however_little_it_was_trained(driver):
    sweep = driver(keep=1)
    sweep.phase("explore")
    sweep.trial("explore-1", [0.1] * 9, epochs=9)
    sweep.phase("refine", "refine")
    sweep.trial("refine-1", [0.3] * 3)
    sweep.trial("refine-2", [0.2] * 3)
    assert sweep.left() == ["explore-1/9", "refine-2/3"]


@pytest.mark.parametrize("status", ["INFEASIBLE", "FAILED"])
def test_only_finished_trials_with_the_metric_are_worth_keeping(driver, status):
    sweep = driver()
    sweep.phase("explore")
    sweep.trial("explore-bad", [0.0, 0.0, 0.0], status)
    sweep.trial("explore-mute", [None, None, None])
    sweep.trial("explore-good", [0.9])
    assert sweep.left() == ["explore-good/1"]


def test_an_interrupted_trial_goes_on_from_its_checkpoint(driver):
    sweep = driver(keep=1)
    sweep.phase("explore")
    sweep.trial("explore-1", [0.1, 0.1, 0.1])
    sweep.trial("explore-2", [0.9], "INTERRUPTED")
    sweep.keeper.clean()
    assert sweep.left() == ["explore-1/3", "explore-2/1"]


def confirmed(sweep):
    """Explore and confirm, up to the verdict."""
    sweep.phase("explore")
    sweep.trial("explore-1", [0.2] * 3)
    sweep.phase("confirm", "confirm")
    for number in range(4):
        sweep.trial(f"confirm-{number}", [0.5 - 0.1 * number] * 3)
    sweep.write("end", phase="confirm", status="FINISHED", reason="", seconds=0.0)


def test_all_seeds_stay_until_the_verdict_has_read_them(driver):
    sweep = driver(keep=1)
    confirmed(sweep)
    everything = [*(f"confirm-{number}/3" for number in range(4)), "explore-1/3"]
    assert sweep.left() == everything
    sweep.keeper.clean()
    assert sweep.left() == everything
    sweep.write("verdict", phase="confirm", verdict="ADOPT", best_trial="confirm-1")
    sweep.keeper.ended()
    assert sweep.left() == ["confirm-1/3", "confirm-3/3", "explore-1/3"], "the winner, the best, the incumbent"


def test_without_a_verdict_they_go_when_that_is_known(driver):
    sweep = driver(keep=1)
    confirmed(sweep)
    sweep.write("finding", finding="no_verdict", severity="warn", message="", phase="confirm")
    sweep.keeper.ended()
    assert sweep.left() == ["confirm-3/3", "explore-1/3"]


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_a_driver_that_goes_on_removes_what_the_one_before_left(driver, tmp_path, bucket, remote):
    folder = place(bucket) / "team" / "sweep" if remote else tmp_path
    sweep = driver(folder, keep=1)
    sweep.phase("explore")
    sweep.trial("explore-1", [0.1, 0.1, 0.1])
    sweep.trial("explore-2", [0.9], "RUNNING")
    sweep.checkpoint("explore-2", 2)  # committed, and not told before the driver died
    sweep.checkpoint("explore-1", 2)  # not removed before the driver died
    filesystem, path = opened(folder / "checkpoints" / "explore-3" / "1")
    filesystem.create_dir(path, recursive=True)
    with filesystem.open_output_stream(f"{path}/model.pt"):
        pass  # torn
    sweep.record.close()
    again = Record(folder)
    Keeper(again).clean()
    again.close()
    assert sweep.left() == ["explore-1/3", "explore-2/1"]


def test_nothing_goes_before_the_journal_can_do_without_it(driver, bucket, monkeypatch):
    sweep = driver(place(bucket) / "sweep")
    sweep.phase("explore")
    order = []
    monkeypatch.setattr("sweeps.retention.remove", lambda folder, first: order.append(f"removed {folder.name}"))
    store = sweep.record.journal._pen._store
    monkeypatch.setattr(
        sweep.record.journal._pen, "_store", lambda content: (store(content), order.append(content.count(b'"report"')))
    )
    sweep.trial("explore-1", [0.3, 0.2], "RUNNING")
    sweep.record.close()
    assert order == [2, "removed 1"]


def test_what_is_kept_is_counted_and_weighed(driver, tmp_path):
    sweep = driver()
    assert kept(tmp_path) == (0, 0)
    sweep.phase("explore")
    sweep.trial("explore-1", [0.1], "RUNNING")
    sweep.trial("explore-2", [0.1, 0.2], "RUNNING")
    (tmp_path / "checkpoints" / "explore-3").mkdir()
    (tmp_path / "checkpoints" / "explore-3" / "model.pt").write_text("torn")
    assert kept(tmp_path) == (2, 2 * sum(map(len, ("model.pt", "rest.pt", MANIFEST))))


def test_what_is_half_gone_is_no_checkpoint(driver, tmp_path, monkeypatch):
    pointer = driver().checkpoint("a", 1)
    monkeypatch.setattr("shutil.rmtree", lambda path, **options: None)  # the process dies here
    remove(tmp_path / pointer, MANIFEST)
    assert sorted(p.name for p in (tmp_path / pointer).iterdir()) == ["model.pt", "rest.pt"]
    assert kept(tmp_path) == (0, 0)
    monkeypatch.undo()
    remove(tmp_path / pointer, MANIFEST)
    assert not (tmp_path / "checkpoints" / "a").exists()
