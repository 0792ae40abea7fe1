"""Passwords that a sweep is given by its environment, looked for in everything that it leaves behind.

A real sweep, one of its trials failing, tracked to an MLflow with users over PostgreSQL: its folder, Ray's session with
all its logs, the server's folder and database, whatever was printed and every command line are searched for them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.terminal import BIN, ROOT, environment, of_kind, run_command, run_sweep
from engine import toy_spec
from integration.test_tracking_server import ADMIN, command_lines, holding, up
from postgres import Postgres, postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STORAGE = "planted-key-of-an-object-store"


@pytest.fixture
def database() -> Iterator[Postgres]:
    """A PostgreSQL, whose password is one of those."""
    with postgres() as found:
        yield found


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its sessions: short, for sockets below it have 107 characters at most."""
    folder = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def texts(database: Postgres) -> str:
    """Every row of every table."""
    named = database.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    return "\n".join(repr(database.query(f'SELECT * FROM "{table}"')) for (table,) in named)


def test_no_secret_is_in_anything_that_a_sweep_leaves(tmp_path: Path, ray_folder: Path, database: Postgres) -> None:
    secrets = {"mlflow": ADMIN, "database": database.password, "storage": STORAGE}
    spec, path = tmp_path / "toy.yaml", f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    space = {"value": {"float": [0.0, 1.0]}, "behaviour": ["none", "raise"]}
    file = tmp_path / "home" / ".mlflow" / "credentials"
    given = {
        "MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": ADMIN, "PGPASSWORD": database.password,
        "AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": STORAGE,
    }  # fmt: skip
    env = environment(**given, HOME=str(tmp_path / "home"), RAY_TMPDIR=str(ray_folder), PYTHONPATH=path)
    with command_lines() as seen, up(tmp_path / "hub", "--store", database.uri, "--auth", **given) as server:
        document = toy_spec(tmp_path / "runs", space=space, tracking=server.url).document()
        spec.write_text(yaml.safe_dump(document))
        swept = run_sweep(spec, tmp_path / "runs", env=env)
        assert swept.code == 0, swept.out
        assert len(of_kind(swept.journal, "failure")) >= 1, "a trial that raises tells its traceback"
        assert f"then open {server.url}/#/experiments/" in swept.out
        command = (BIN / "sweeps", "compare", swept.folder, swept.folder.name, "--tracking-uri", server.url)
        file.parent.mkdir(parents=True)
        file.write_text(f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {ADMIN}\n")
        by_file = {name: value for name, value in env.items() if not name.startswith("MLFLOW_TRACKING_")}
        compared = run_command(*command, env=by_file, cwd=file.parent)  # no folder of that name
        assert compared.code == 0, compared.out
    kept = texts(database)
    assert kept.count(swept.folder.name) > 4, "the sweep's run and those of its four trials are there"
    assert list(ray_folder.glob("ray/session_*/logs/*")), "and Ray's logs are"
    assert holding(tmp_path, secrets) == [(str(file), "mlflow")]
    assert holding(ray_folder, secrets) == []
    said = {"database": kept, "sweep": swept.out, "compare": compared.out, "command lines": "\n".join(seen)}
    assert [(what, name) for what, text in said.items() for name, secret in secrets.items() if secret in text] == []
