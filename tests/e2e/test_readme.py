"""The README shows only what runs: its commands, its Python, and the shape of the output that it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.examples import EXAMPLES, HEAD
from recorded import record
from sweeps.cli.tracking import tracking

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The packages and nothing else, as a place to run in."""
    for package in ("sweeps", "trainables", "cluster"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)


def test_the_quickstart_is_two_commands() -> None:
    assert blocks("bash")[0].split("\n") == ["make demo", "make test", ""]


def test_its_commands_run(checkout: Path) -> None:
    lines = [line for line in blocks("bash")[1].splitlines() if line]
    assert len(lines) >= 5
    for line in lines:
        done = run(["bash", "-c", line], checkout)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (checkout / "sweep.yaml").exists()
    assert list(checkout.glob("runs/own_loop-*/report.html"))


def test_its_python_runs(checkout: Path) -> None:
    (code,) = blocks("python")
    done = run([sys.executable, "-c", f"{code}\nprint(type(model).__mro__[1].__name__, table.num_rows)"], checkout)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(ADOPT|KEEP_BASELINE|MORE_SEEDS)", done.stdout)
    name, rows = done.stdout.split()[-2:]
    assert name == "Module" or name == "Sequential"
    assert int(rows) >= 4 + 2 * 3 * 3


def test_its_population_runs_and_one_of_its_trials_again(checkout: Path) -> None:
    (block,) = [block for block in blocks("bash") if "sweeps replay" in block]
    for line in block.splitlines():
        done = run(["bash", "-c", line], checkout)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    told = " ".join(done.stdout.split())
    assert re.search(r"replay: evolve-000 again from scratch, its config changed \d+ times on the way", told)
    assert "with its own seed, as before" in told
    (folder,) = checkout.glob("runs/digits_evolve-*")
    assert (folder / "figures" / "population.png").is_file()


def test_its_tracking_commands_are_known() -> None:
    """Parsed only: tests/integration/test_tracking_server.py runs such servers."""
    lines = [line.partition("#")[0].split() for block in blocks("bash") for line in block.splitlines()]
    given = [words[2:] for words in lines if words[:2] == ["sweeps", "tracking"]]
    assert [name for name, *_ in given] == ["up", "up", "template"]
    for name, *arguments in given:
        tracking.commands[name].make_context(name, arguments)


def test_its_commands_for_comparing_run_against_an_mlflow(checkout: Path) -> None:
    (block,) = [block for block in blocks("bash") if "sweeps compare" in block]
    sync, compare = block.replace("http://127.0.0.1:5000", f"sqlite:///{checkout}/mlflow.db").splitlines()
    names = sorted(set(re.findall(r"digits-\d{8}-\d{6}", block)))
    for name in names:
        record(checkout / "runs" / name)
    done = run(["bash", "-c", sync], checkout)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(checkout / "runs" / names[0])
    done = run(["bash", "-c", compare], checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == names


def test_its_output_is_that_of_the_demo(demo) -> None:
    shown = blocks("text")[0]

    def shape(text: str) -> list[str]:
        """The first word of each line that begins a part of the answer."""
        parts = ("ADOPT", "KEEP_BASELINE", "MORE_SEEDS", "Ranges", "Cost", "Report", "MLflow")
        return [line.split()[0].rstrip(":") for line in text.splitlines() if line.startswith(parts)]

    assert shape(shown) == shape(demo.out[demo.out.rindex("s] confirm") :])
    assert re.search(r"start-up\s+\d+\s+%,\s+training\s+\d+\s+%,\s+bookkeeping\s+\d+\s+%", shown)


def test_its_output_of_make_test_is_pytests() -> None:
    assert re.search(
        r"^=+ \d+ passed(, \d+ skipped)?(, \d+ deselected)? in [\d.]+s \([\d:]+\) =+$",
        blocks("text")[1],
        flags=re.MULTILINE,
    )


def test_its_table_of_results_is_one_of_make_examples() -> None:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line[:1] == "|"]
    start = lines.index(list(HEAD))
    rows = lines[start + 2 : start + 2 + len(EXAMPLES)]
    assert [row[0] for row in rows] == [f"[{name}](sweeps/examples/{name}.yaml)" for name in EXAMPLES]
    assert [row[1] for row in rows] == list(EXAMPLES.values())
    for row in rows:
        assert re.fullmatch(r"(ADOPT|KEEP_BASELINE|MORE_SEEDS), \d+ seeds", row[HEAD.index("verdict")])
        assert re.fullmatch(r"[\d.]+ ± [\d.]+ → ([\d.]+ ± [\d.]+|–)", row[HEAD.index("test/loss")])


def test_its_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    assert [t for t in targets if not t.startswith("http") and not (ROOT / t).exists()] == []
