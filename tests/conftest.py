"""What all tests share: an environment that is the same everywhere, and a recorded sweep.

Set before torch, Ray or MLflow is imported, and inherited by every process that a test starts.
"""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer

    from cluster.local import Cluster

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


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Cluster]:
    """A Ray of two CPUs of our own, which `Sweep.run` finds connected; each sweep brings its own pool of slots."""
    from cluster.local import connect

    cluster = connect()
    assert cluster.own
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ThreadedMotoServer]:
    """A server on loopback that speaks S3."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it prints every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(object_store: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of an empty S3 bucket, reached as users reach theirs: by the environment, which processes inherit."""
    from pyarrow.fs import S3FileSystem

    from sweeps.storage import connected

    host, port = object_store.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    S3FileSystem(allow_bucket_creation=True, endpoint_override=f"http://{host}:{port}").create_dir(name)
    connected.cache_clear()
    yield f"s3://{name}"
    connected.cache_clear()


def pytest_configure() -> None:
    """Heed SIGINT, also where nohup had it ignored, which every process started here would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
