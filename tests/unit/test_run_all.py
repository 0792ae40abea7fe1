"""`make test-all` on small suites of its own: what is run again, and which exit code comes out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "run_all.py"
QUICK = "def test_quick():\n    pass\n"
SLOW = "import pytest\npytestmark = pytest.mark.slow\n"
FLAKY = f"""{SLOW}
from pathlib import Path

def test_second_time_lucky():
    seen = Path("seen")
    again = seen.exists()
    seen.touch()
    assert again

def test_steady():
    pass
"""


def run_all(folder: Path, **files: str) -> tuple[int, str]:
    """Exit code and output of run_all.py over these test files."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow\n  e2e\n")
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # starts faster
    done = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False, env=env)
    return done.returncode, done.stdout


def test_a_slow_test_that_passes_alone_is_called_flaky_and_the_run_is_green(tmp_path):
    code, output = run_all(tmp_path, quick=QUICK, flaky=FLAKY)
    assert code == 0
    assert "FLAKY: test_flaky.py::test_second_time_lucky" in output
    assert "test_steady" not in output


def test_a_slow_test_that_fails_twice_fails_the_run(tmp_path):
    code, output = run_all(tmp_path, quick=QUICK, broken=f"{SLOW}\ndef test_broken():\n    assert False\n")
    assert code == 1
    assert "FAILED TWICE: test_broken.py::test_broken" in output


def test_a_quick_test_is_not_given_a_second_chance(tmp_path):
    flaky = FLAKY.replace(SLOW, "")
    code, output = run_all(tmp_path, quick=flaky, slow=f"{SLOW}\ndef test_slow():\n    pass\n")
    assert code == 1
    assert "FLAKY" not in output


@pytest.mark.parametrize(
    "files",
    [{"quick": QUICK}, {"slow": f"{SLOW}\ndef test_slow():\n    pass\n"}, {}],
    ids=["no slow test", "no quick test", "none"],
)
def test_a_part_without_a_test_fails_the_run(tmp_path, files):
    assert run_all(tmp_path, **files)[0] == 5


def test_a_file_that_cannot_be_imported_is_not_flaky(tmp_path):
    code, output = run_all(tmp_path, quick=QUICK, broken="import nothing_of_the_kind\n")
    assert code == 2
    assert "FLAKY" not in output
