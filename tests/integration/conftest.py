"""One Ray for all tests here; each sweep brings its own pool of slots to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.local import Cluster, connect


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Cluster]:
    """A Ray of two CPUs of our own, which `Sweep.run` finds connected."""
    cluster = connect()
    assert cluster.own
    yield cluster
    cluster.close()
