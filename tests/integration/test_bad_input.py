"""Bad input through the command line: one message that says what, where and the mend; an exit code; nothing left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sweeps.cli import main
from sweeps.history import History
from sweeps.journal import read

ROOT = Path(__file__).parents[2]
GOOD = {
    "trainable": "toys:trial",
    "space": "\n  value: {float: [0.0, 1.0]}",
    "phases": "\n  - {kind: explore, trials: 4, epochs: 2, reduction_factor: null}",
}
BROKEN_MODULES = {
    "raises_on_import": "import math\nmath.sqrt(-1)\n",
    "needs_absent": "import package_that_is_absent\n",
    "neither": """
class Net:
    def data(self, config, fidelity): ...

def trial(config, session):
    return []
""",
    "bad_data": """
class Net:
    def data(self, config, fidelity):
        raise FileNotFoundError("no rows in /data")

    def model(self, config, data): ...
""",
    "small_data": """
import torch
from trainables.contract import Data

class Net:
    def data(self, config, fidelity):
        x = torch.rand(40, 3)
        return Data((x, x.argmax(1)), (x, x.argmax(1)))

    def model(self, config, data):
        return torch.nn.Linear(3, 3)
""",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the user in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command line puts the current folder on it
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def write_spec(**keys: str) -> Path:
    """A good spec with these keys put over it, in the current folder."""
    file = Path("bad.yaml")
    file.write_text("".join(f"{key}: {value}\n" for key, value in {**GOOD, **keys}.items()))
    return file


def write_module(kind: str) -> str:
    """A module with that fault in the current folder; its name is used once, for Python remembers modules."""
    name = f"{kind}_{uuid.uuid4().hex[:8]}"
    Path(f"{name}.py").write_text(BROKEN_MODULES[kind])
    return name


def call(*words: str) -> Result:
    """`sweeps …` in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


def message(result: Result, code: int) -> str:
    """The one error that was printed; checks that it is readable and that the exit code is right."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    said = re.findall(r"^(?:\w+Error|SweepFailed): ", result.stderr, re.M)
    assert len(said) == 1, result.stderr
    assert result.stderr.startswith(said[0])
    assert "Error: " not in result.stdout
    assert "Traceback" not in result.output
    for package in ("sweeps", "cluster", "trainables", ".venv"):
        assert f'File "{ROOT}/{package}/' not in result.output, "a frame of our own machinery"
    assert max(map(len, result.stderr.splitlines())) < 400
    return result.stderr


def left_in(folder: Path) -> list[str]:
    """What a command left behind besides what the test wrote; an empty storage folder is nothing."""
    mine = re.compile(r"__pycache__|.*\.py|bad\.yaml|runs")
    return [
        str(p.relative_to(folder)) for p in (*folder.iterdir(), *folder.glob("runs/*")) if not mine.fullmatch(p.name)
    ]


SPEC_FAULTS = {
    "low above high": (
        {"space": "\n  value: {float: [0.9, 0.1]}"},
        "SpecError: space.value: low (0.9) is above high (0.1)\n"
        "  in bad.yaml, line 3. Swap them, or write {float: [0.1, 0.9]}.\n",
    ),
    "log of zero": (
        {"space": "\n  value: {float: [0, 1]}\n  lr: {log: [0, 0.1]}"},
        "SpecError: space.lr: a logarithmic range cannot begin at 0\n"
        "  in bad.yaml, line 4. Begin above 0, e.g. {log: [0.0001, 0.1]}, add or_zero: true if 0 is meant too, "
        "or use {float: …}.\n",
    ),
    "unknown parameter in a condition": (
        {"space": "\n  optimizer: [sgd, adamw]\n  momentum: {float: [0, 1], when: {optimiser: sgd}}"},
        "SpecError: space.momentum.when: unknown parameter 'optimiser'\n"
        "  in bad.yaml, line 4. Did you mean optimizer?\n",
    ),
    "unknown key": (
        {"metrik": "val/loss"},
        "SpecError: metrik: unknown key\n  in bad.yaml, line 6. Did you mean metric?\n",
    ),
    "unknown key of a phase": (
        {"phases": "\n  - kind: explore\n    epocs: 3"},
        "SpecError: phases[0].epocs: unknown key\n  in bad.yaml, line 6. Did you mean epochs?\n",
    ),
    "not YAML": (
        {"metric": "[val/loss"},
        "SpecError: spec: this is not YAML: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("fault", SPEC_FAULTS)
def test_a_fault_of_the_spec_is_named_with_its_line(folder: Path, command: str, fault: str) -> None:
    keys, expected = SPEC_FAULTS[fault]
    result = call(command, write_spec(**keys))
    said = message(result, 2)
    if expected.endswith("\n"):
        assert said == expected
    else:
        assert said.startswith(expected)
        assert re.search(r"in bad\.yaml, line \d+\. Check indentation, colons and quotes\.\n$", said)
    assert result.stdout == ""
    assert left_in(folder) == []


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_spec_that_is_not_there_or_is_no_spec(folder: Path, command: str) -> None:
    said = message(call(command, "absent.yaml"), 2)
    assert said == (
        "SpecError: spec: there is no file absent.yaml\n  Check the path; `sweeps init` writes a first spec.\n"
    )
    Path("bad.yaml").write_text("just words")
    said = message(call(command, "bad.yaml"), 2)
    assert said == "SpecError: spec: not a mapping of keys to values\n  in bad.yaml. Begin with `trainable:`.\n"
    Path("bad.yaml").write_bytes(b"\x89PNG\r\n\xff\xfe")
    assert "bad.yaml cannot be read" in message(call(command, "bad.yaml"), 2)
    Path("bad.yaml").unlink()
    Path("bad.yaml").mkdir()
    assert "bad.yaml cannot be read" in message(call(command, "bad.yaml"), 2)
    assert left_in(folder) == []


TRAINABLE_FAULTS = {
    "no such module": ("absent_model", "Net", ["no module named 'absent_model'", "Run from the folder that holds it"]),
    "no such attribute": ("neither", "Digits", ["has no attribute 'Digits'; it has Net, trial"]),
    "raises on import": ("raises_on_import", "Net", ["importing '{module}' raised ValueError", "Mend the module"]),
    "needs what is absent": ("needs_absent", "Net", ["'package_that_is_absent', which is not installed. Install it"]),
    "neither": ("neither", "Net", ["'Net' is neither a generator function trial(config, session)", "model(config"]),
    "no generator": ("neither", "trial", ["'trial' is neither a generator function"]),
    "data raises": (
        "bad_data",
        "Net",
        ["{module}:Net with the baseline config raised FileNotFoundError", "no rows in /data", "{module}.py", "line 4"],
    ),
}


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        *(("plan", fault) for fault in TRAINABLE_FAULTS),
        *(("run", fault) for fault in ("no such module", "raises on import", "neither", "data raises")),  # seconds each
    ],
)
@pytest.mark.usefixtures("ray_session")
def test_a_trainable_that_cannot_work(folder: Path, command: str, fault: str) -> None:
    kind, attribute, parts = TRAINABLE_FAULTS[fault]
    module = write_module(kind) if kind in BROKEN_MODULES else kind
    said = message(call(command, write_spec(trainable=f"{module}:{attribute}")), 2)
    assert said.startswith("UsageError: trainable: ")
    for part in parts:
        assert part.format(module=module) in said
    assert left_in(folder) == []


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.usefixtures("ray_session")
def test_a_batch_that_is_larger_than_the_data(folder: Path, command: str) -> None:
    space = "\n  lr: {log: [1e-4, 1e-1]}\n  batch_size: {powers_of_two: [4, 64]}"
    said = message(call(command, write_spec(trainable=f"{write_module('small_data')}:Net", space=space)), 2)
    assert said == (
        "SpecError: space.batch_size: a batch of 64 is larger than the 20 training rows at data_fraction 0.5\n"
        "  End the range at 20 or below, or raise data_fraction.\n"
    )
    assert left_in(folder) == []


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("resources", "problem", "mend"),
    [
        ("{cpus_per_worker: 4000}", "a trial takes 4000 CPUs and 0 GPUs on one node", "Lower workers, cpus_per_worker"),
        ("{gpus_per_worker: 99}", "a trial takes 1 CPU and 99 GPUs on one node", "or gpus_per_worker"),
        ("{concurrency: 5000}", "5000 trials at a time were asked for", "Write concurrency: "),
    ],
)
def test_what_never_fits(folder: Path, command: str, resources: str, problem: str, mend: str) -> None:
    said = message(call(command, write_spec(resources=resources)), 2)
    assert said.startswith("PlanError: resources")
    assert problem in said
    assert mend in said
    assert left_in(folder) == []


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_storage_that_cannot_be_one(folder: Path, command: str) -> None:
    Path("runs").write_text("mine")
    said = message(call(command, write_spec()), 2)
    assert said == f"StorageError: storage: {folder}/runs is a file. Give a folder.\n"
    assert Path("runs").read_text() == "mine"
    said = message(call(command, write_spec(), "--storage", "s4://bucket/sweeps"), 2)
    assert "Unrecognized filesystem type in URI: s4://bucket. Give a folder, or e.g. s3://bucket/sweeps." in said
    assert left_in(folder) == []


def test_a_tracking_server_that_is_not_there(folder: Path) -> None:
    with socket.socket() as held:  # bound and not listening: nobody answers, and nobody else takes the port
        held.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{held.getsockname()[1]}"
        result = call("run", write_spec(), "--tracking-uri", uri)
    said = message(result, 2)
    assert said.startswith(f"TrackingError: tracking: {uri} cannot be reached (")
    assert "refused" in said
    assert "sweeps tracking up" in said
    assert result.stdout == "", "asked before Ray is started"
    assert left_in(folder) == []


@pytest.mark.usefixtures("ray_session")
def test_a_metric_that_is_never_reported(folder: Path) -> None:
    said = message(call("run", write_spec(metric="val/los", storage="kept")), 1)
    assert re.fullmatch(
        r"SweepFailed: metric: explore-00\d does not report 'val/los' after each epoch; "
        r"it reports train/loss, val/loss\. Did you mean val/loss\?\n",
        said,
    )
    (sweep,) = Path("kept").iterdir()
    history = History.open(sweep)
    assert history.status == "FAILED"
    assert "does not report 'val/los'" in history.end["reason"]
    assert all(trial.status != "RUNNING" for trial in history.trials.values())


def test_a_sweep_that_is_not_there(folder: Path) -> None:
    for command in ("status", "report", "sync"):
        said = message(call(command, "nothing"), 2)
        assert said == (
            "StorageError: there is no sweep at nothing, nor under ./runs. Give the folder that `sweeps run` printed.\n"
        )
    assert left_in(folder) == []


def test_init_writes_over_nothing_and_for_nothing(folder: Path) -> None:
    Path("runs.py").write_text("mine")
    said = message(call("init", "toys:trial", "--out", "runs.py"), 2)
    assert said == "UsageError: runs.py is there already. Give another name with --out.\n"
    assert Path("runs.py").read_text() == "mine"
    assert "no module named 'absent'" in message(call("init", "absent:Thing"), 2)
    assert "not of the form module:attr" in message(call("init", "toys"), 2)
    assert "'toys' has no attribute 'tril'" in message(call("init", "toys:tril"), 2)
    assert "cannot be written" in message(call("init", "toys:trial", "--out", "absent/sweep.yaml"), 2)
    assert left_in(folder) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "bad.yaml", "--storag", "x"], "No such option '--storag'. Did you mean '--storage'?"),
        (["plan", "--mesure", "bad.yaml"], "No such option '--mesure'. Did you mean '--measure'?"),
        (["rum", "bad.yaml"], "No such command 'rum'."),
        (["run"], "Missing argument 'SPEC'."),
    ],
)
def test_a_call_that_is_not_one(folder: Path, words: list[str], said: str) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.output
    assert left_in(folder) == []


def processes_with(mark: str) -> list[int]:
    """Processes that inherited this from the environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:  # gone meanwhile, or somebody else's
            continue
    return found


def wait_for(condition, limit_s: float, what: str):  # type: ignore[no-untyped-def]
    """The first true value of a condition; fails after so long."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < end, f"no {what} within {limit_s:.0f} s"
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`python -m sweeps …`, its words in the files out and err, and the mark of its processes; all ended after."""
    mark = f"BAD_INPUT_TEST={uuid.uuid4()}"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", mark.split("=")[0]: mark.split("=")[1]}
    with open("out", "w") as out, open("err", "w") as err:
        command = [sys.executable, "-m", "sweeps", *words]
        sweep = subprocess.Popen(command, stdout=out, stderr=err, env=env, start_new_session=True)
    try:
        yield sweep, mark
    finally:
        for pid in processes_with(mark):
            os.kill(pid, signal.SIGKILL)
        sweep.wait()


@pytest.mark.slow
@pytest.mark.parametrize("to", ["the driver", "the terminal's whole group"])
def test_ctrl_c_ends_a_sweep_in_order(folder: Path, to: str) -> None:
    space = "\n  value: {float: [0.0, 1.0]}\n  seconds: 0.3"
    spec = write_spec(space=space, phases="\n  - {kind: explore, trials: 500, epochs: 3}\n  - {kind: confirm}")
    with started("run", str(spec)) as (sweep, mark):
        wait_for(lambda: any(b'"report"' in p.read_bytes() for p in folder.glob("runs/*/journal/*")), 120, "report")
        assert len(processes_with(mark)) > 3, "the driver, Ray and its workers"
        (os.kill if to == "the driver" else os.killpg)(sweep.pid, signal.SIGINT)
        assert sweep.wait(timeout=15) == 130
        (run,) = folder.glob("runs/*")
        history = History.open(run)
        assert history.status == "INTERRUPTED"
        assert list(history.phases) == ["explore"]
        (end,) = (line for line in read(run) if line["kind"] == "end" and "phase" in line)
        assert (end["status"], end["reason"]) == ("INTERRUPTED", "interrupted")
        assert {trial.status for trial in history.trials.values()} <= {"FINISHED", "INTERRUPTED"}
        assert len(history.trials) < 100
        assert (run / "report.html").exists()
        # A writer that others keep from the processor is left to itself after four seconds, which is told.
        left = r"(MLflow: the writer \(process \d+\) is still at work, .*\n  Nothing is lost: `sweeps sync .*\n)?"
        assert re.fullmatch(rf"{left}interrupted\.\n", Path("err").read_text())
        assert "Traceback" not in Path("out").read_text()
        wait_for(lambda: not processes_with(mark), 15, "end of every process")


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_data_that_take_an_hour_do_not_hold_a_driver_back(folder: Path, signal_: signal.Signals) -> None:
    """Interrupted before the sweep has begun: no folder, no process stays."""
    Path("endless.py").write_text(
        "import pathlib, time\n\nclass Net:\n    def data(self, config, fidelity):\n"
        "        pathlib.Path('at_data').touch()\n        time.sleep(3600)\n\n    def model(self, config, data): ...\n"
    )
    spec = write_spec(trainable="endless:Net", space="\n  lr: {log: [1e-3, 1e-1]}\n  batch_size: 8")
    with started("run", str(spec)) as (sweep, mark):
        wait_for(lambda: Path("at_data").exists(), 120, "call of data()")
        sweep.send_signal(signal_)
        assert sweep.wait(timeout=15) == 130
        assert Path("err").read_text() == "interrupted.\n"
        assert not list(folder.glob("runs/*/journal"))
        wait_for(lambda: not processes_with(mark), 15, "end of every process")
