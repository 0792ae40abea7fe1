"""An MLflow server that fails in every way while a sweep is written to it: nothing is lost, nothing comes twice, and
the sweep does not notice.

Counted by SQL behind the server, as in integration/test_tracking.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.terminal import of_kind
from engine import toy_spec
from faults.harness import check_whole as check_whole_sweep
from faults.harness import mounted, strikes
from faulty import Faulty, faulty
from integration.test_tracking import (
    free_port,
    given_up,
    in_the_middle_of,
    mlflow_server,
    points_of,
    query,
    wait_until,
    write,
)
from recorded import record
from sweeps import Sweep
from sweeps.journal import read
from sweeps.tracking import Writer, child, sync
from sweeps.tracking.child import log_file

pytestmark = pytest.mark.slow
LIMIT_S = 120


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server for all tests of this file: its port, its database."""
    folder, port = tmp_path_factory.mktemp("hub"), free_port()
    with mlflow_server(folder, port):
        yield port, folder / "mlflow.db"


@pytest.fixture
def server(hub: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """The server behind one that misbehaves; whoever waits for it has little patience."""
    monkeypatch.setitem(child.ENVIRONMENT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with faulty(hub[0]) as state:
        yield state


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The recorded sweep under a name of the test's own: all share a database."""
    return record(tmp_path / "source" / request.node.name.replace("[", "-").replace("]", ""))


def of_sweep(database: Path, name: str) -> Counter[tuple[Any, ...]]:
    """The points of one sweep's runs that are not deleted."""
    sql = (
        "SELECT r.name, m.key, m.step, m.value, m.timestamp FROM metrics m JOIN runs r USING (run_uuid) "
        "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'sweep' "
        "WHERE m.step > 0 AND t.value = ? AND r.lifecycle_stage = 'active'"
    )
    return Counter(query(database, sql, name))


def runs_of(database: Path, name: str) -> Counter[str]:
    """The names of one sweep's runs that are not deleted."""
    sql = (
        "SELECT r.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'sweep' "
        "WHERE t.value = ? AND r.lifecycle_stage = 'active'"
    )
    return Counter(name for (name,) in query(database, sql, name))


def check_whole(database: Path, folder: Path, lines: list[dict[str, Any]]) -> None:
    """Everything that the journal has is there once."""
    trials = {line["trial"] for line in lines if line["kind"] == "trial"}
    assert runs_of(database, folder.name) == Counter([*trials, folder.name])
    assert of_sweep(database, folder.name) == points_of(lines)


@pytest.mark.parametrize("status", [500, 429, 503, 401, 403, 404])
def test_one_that_answers_with_errors(
    server: Faulty, hub: tuple[int, Path], source: Path, tmp_path: Path, status: int
) -> None:
    """As a proxy does whose server is gone, or one whose users are changed, in the middle of a sweep."""
    folder, lines = tmp_path / source.name, read(source)
    write(source, folder, in_the_middle_of(lines, "refine-002"))
    writer = Writer(folder, server.uri)
    wait_until(lambda: len(runs_of(hub[1], folder.name)) > 4, "the first runs")
    server.spoil = lambda path, body: (status, {"message": "not now"} if status == 503 else {})
    write(source, folder, in_the_middle_of(lines, "confirm-004"))
    wait_until(lambda: "out of reach" in log_file(folder).read_text(), "the writer's notice of it")
    server.spoil = lambda path, body: None
    write(source, folder, None)
    assert writer.finish(LIMIT_S) == ""
    check_whole(hub[1], folder, lines)


def test_one_that_loses_its_answers_makes_nothing_twice(
    server: Faulty, hub: tuple[int, Path], source: Path, tmp_path: Path
) -> None:
    """Every third request that changes something is done, and its sender never hears of it."""
    folder, lines = tmp_path / source.name, read(source)
    count = 0

    def lose(path: str, body: dict[str, Any]) -> bool:
        nonlocal count
        count += path.endswith(("/create", "/log-batch", "/update"))
        return path.endswith(("/create", "/log-batch", "/update")) and count % 3 == 0

    server.lose = lose
    write(source, folder, in_the_middle_of(lines, "confirm-004"))
    writer = Writer(folder, server.uri)
    wait_until(lambda: log_file(folder).read_text().count("out of reach") > 2, "some losses")
    server.lose = lambda path, body: False
    write(source, folder, None)
    assert writer.finish(LIMIT_S) == ""
    check_whole(hub[1], folder, lines)


def test_one_that_hangs_and_does_later_what_it_was_asked_for(
    server: Faulty, hub: tuple[int, Path], source: Path, tmp_path: Path
) -> None:
    """Runs that it makes after their sender has given up, beside those that it was asked for again, are taken away."""
    folder, lines = tmp_path / source.name, read(source)
    write(source, folder, in_the_middle_of(lines, "refine-002"))
    writer = Writer(folder, server.uri)
    wait_until(lambda: len(runs_of(hub[1], folder.name)) > 4, "the first runs")
    server.let_go.clear()
    write(source, folder, None)
    wait_until(lambda: log_file(folder).read_text().count("out of reach") > 1, "the writer's notice of it")
    message = writer.finish(LIMIT_S, 2.0)  # which returns though the server still hangs
    assert "goes on by itself" in message
    server.let_go.set()
    assert writer.finish(LIMIT_S) == ""
    check_whole(hub[1], folder, lines)


def test_what_it_will_not_take_is_set_aside_with_its_reason(
    server: Faulty, hub: tuple[int, Path], source: Path, tmp_path: Path
) -> None:
    """One metric of one epoch, two whole trials for ever, and the saved views: all else arrives."""
    folder, lines = tmp_path / source.name, read(source)
    poisoned = ("explore-002", "explore-003")
    uids = [f"{folder.name}/{name}" for name in poisoned]

    def spoil(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        bad = [m for m in body.get("metrics", []) if m["key"] == "val/accuracy" and m["step"] == 4]
        if path.endswith("/log-batch") and bad:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "four is no step"}
        if path.endswith("/create") and any(tag["value"] in uids for tag in body.get("tags", [])):
            return 500, {"error_code": "INTERNAL_ERROR", "message": "this trial kills me"}
        if path.endswith("/set-experiment-tag"):
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "no such tag"}
        return None

    server.spoil = spoil
    write(source, folder, None)
    said = given_up(folder, server.uri)
    assert "MLflow refused refine-000's metric val/accuracy" in said
    assert all(f"{name}: refused by MLflow: " in said for name in poisoned)
    assert "this trial kills me" in said or "too many 500 error responses" in said
    assert "refine-003's metric val/accuracy: refused by MLflow" in said
    assert "four is no step" in said
    assert "cannot be saved, MLflow opens on its own table" in said
    expected = points_of(lines)
    for point in list(expected):
        if point[0] in poisoned or point[1:3] == ("val/accuracy", 4):
            del expected[point]
    assert of_sweep(hub[1], folder.name) == expected
    assert statuses_of(hub[1], folder.name)[folder.name] == "FINISHED", "the sweep's end is there all the same"
    server.spoil = lambda path, body: None
    sync(folder, server.uri)  # once it takes them, what was set aside arrives as well
    check_whole(hub[1], folder, lines)
    assert statuses_of(hub[1], folder.name)["explore-002"] == "FINISHED"


def statuses_of(database: Path, name: str) -> dict[str, str]:
    """MLflow's status of a sweep's runs."""
    sql = "SELECT r.name, r.status FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'sweep' AND t.value = ?"
    return dict(query(database, sql, name))


def test_one_whose_disk_is_full(source: Path, tmp_path: Path) -> None:
    """It goes on once there is room again."""
    folder, lines, port = tmp_path / source.name, read(source), free_port()
    with mounted(tmp_path / "disk", "64m") as disk, mlflow_server(disk, port) as uri:
        write(source, folder, in_the_middle_of(lines, "refine-002"))
        writer = Writer(folder, uri)
        wait_until(lambda: len(runs_of(disk / "mlflow.db", folder.name)) > 4, "the first runs")
        with open(disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(2**12))
        write(source, folder, in_the_middle_of(lines, "confirm-004"))
        wait_until(lambda: "out of reach" in log_file(folder).read_text(), "the writer's notice of it")
        (disk / "ballast").unlink()
        write(source, folder, None)
        assert writer.finish(LIMIT_S) == ""
        check_whole(disk / "mlflow.db", folder, lines)


@pytest.mark.usefixtures("ray_session")
def test_training_does_not_wait_for_one_that_hangs(
    server: Faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports flow as with one that answers, in turns; the driver ends, and its writer is left to itself."""
    took = {}
    for hangs in (False, True):
        if hangs:
            monkeypatch.setattr("sweeps.sweep.STALLED_S", 2.0)
        storage = tmp_path / str(hangs)

        def strike(lines: list[dict[str, Any]], hangs: bool = hangs) -> bool:
            begun = any(line["kind"] == "report" for line in lines)
            if begun and hangs:
                server.let_go.clear()
            return begun

        spec = toy_spec(
            storage, space={"value": {"float": [0.0, 1.0]}, "seconds": 0.3}, tracking=server.uri,
            phases=[{"kind": "explore", "trials": 12, "epochs": 6, "reduction_factor": None}],
        )  # fmt: skip
        with strikes(storage, strike):
            sweep = Sweep(spec).run(out=io.StringIO())
        reports = of_kind(check_whole_sweep(sweep, 12), "report")
        took[hangs] = reports[-1]["at"] - reports[0]["at"]
        said = capsys.readouterr().err
        assert ("goes on by itself" in said) is hangs
        assert "sweeps sync" in said or not hangs
    assert took[True] < 1.6 * took[False], "one call that was waited for takes three seconds"
    server.let_go.set()
    for left in child.LEFT_ALONE:
        left.wait(LIMIT_S)
    sync(Path(str(sweep.folder)), server.uri)
