"""Any module may be the first that a program imports: a circle shows only to who comes in at the wrong place."""

from __future__ import annotations

import subprocess
import sys

from contract.test_arrows import PACKAGES, ROOT

EACH_FIRST = """
import importlib, sys
packages, names = sys.argv[1].split(), sys.argv[2:]
for name in names:
    for known in [known for known in sys.modules if known.partition(".")[0] in packages]:
        del sys.modules[known]  # theirs stay: importing those anew would take minutes
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


def test_every_module_can_be_the_first() -> None:
    files = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    names = [name for name in names if not name.endswith(".__main__")]
    assert len(names) > 50
    done = subprocess.run(
        [sys.executable, "-c", EACH_FIRST, " ".join(PACKAGES), *names], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
