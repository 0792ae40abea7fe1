"""What all tests share: an environment that is the same everywhere, and a recorded sweep.

Set before torch, Ray or MLflow is imported, and inherited by every process that a test starts.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ |= {
    "OMP_NUM_THREADS": "1",  # two threads were 2-5 times slower on two shared cores, and sums depend on their number
    "RAY_AUTH_MODE": "disabled",  # Ray's default depends on whether a token lies in the home directory
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "agg",
}
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "RAY_ADDRESS"):
    os.environ.pop(name, None)  # a test never reaches the tracking server or the cluster of whoever runs it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where torch sees none."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if not needing:
        return
    import torch  # takes seconds, so only where a test asks

    if not torch.cuda.is_available():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def recorded_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep with every kind of line in its journal. Only read it."""
    from recorded import record

    return record(tmp_path_factory.mktemp("recorded") / "recorded-20260101-000000")


def pytest_configure() -> None:
    """Heed SIGINT, also where nohup had it ignored, which every process started here would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
