"""Every test, for `make test-all`: the quick ones, then the slow and the end-to-end ones.

A test among the latter that fails is run once more, alone: on two shared cores a browser or a cluster may be late
for reasons that are not the code's. One that needed it is printed as `FLAKY: <id>`, to be mended, and the run is
still green. Anything else that pytest calls a failure stays one, a part in which no test ran (exit code 5) included.
Further arguments are given to both parts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path("build/pytest")
QUICK, SLOW = "not slow and not e2e", "slow or e2e"
SOME_FAILED = 1
"""pytest's exit code when tests ran and some failed; a crash, an interruption and an empty run have others."""


def pytest(*args: str) -> int:
    """Run pytest in a process of its own; its exit code."""
    return subprocess.run([sys.executable, "-m", "pytest", *args], check=False).returncode


def main(args: list[str]) -> int:
    """The exit code of the whole run: 0, or that of the first part that is not green."""
    quick = pytest("-m", QUICK, *args)
    shutil.rmtree(CACHE, ignore_errors=True)  # `lastfailed` must speak of this run only
    slow = pytest("-m", SLOW, "-o", f"cache_dir={CACHE.absolute()}", *args)
    if slow == SOME_FAILED:
        slow = run_again()
    return quick or slow


def run_again() -> int:
    """Each test that failed, alone; 0 when all pass now."""
    record = CACHE / "v/cache/lastfailed"
    failed = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}  # none: pytest itself was ended
    codes = {test: pytest(test) for test in failed}
    for test, code in codes.items():
        print(f"{'FAILED TWICE' if code else 'FLAKY'}: {test}", flush=True)
    return max(codes.values(), default=SOME_FAILED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
