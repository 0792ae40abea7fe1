"""Tracking URIs: what is refused, how quickly, and that no secret is ever shown."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sweeps.errors import SpecError, TrackingError
from sweeps.secrets import holds_secret, without_secrets
from sweeps.spec import SweepSpec
from sweeps.tracking import check, default_uri, open_command


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for someone who has set nothing."""
    for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def server(answer: Callable[[str, str], int]) -> Iterator[str]:
    """A web server on loopback that answers (path, authorization) with a status; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer(self.path, self.headers.get("Authorization", "")))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


def refusal(uri: str) -> str:
    """What `check` says of the URI."""
    with pytest.raises(TrackingError) as caught:
        check(uri)
    return str(caught.value)


def test_the_default_is_an_absolute_sqlite_file_in_the_sweeps_folder(tmp_path: Path) -> None:
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    check(default_uri(tmp_path))
    assert list(tmp_path.iterdir()) == []  # checking leaves nothing behind


def test_an_existing_database_is_accepted_and_another_file_is_not(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE runs (id)")
    check(default_uri(tmp_path))
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    assert "is no database" in refusal(default_uri(tmp_path))


def test_sqlite_in_a_missing_folder_or_in_memory(tmp_path: Path) -> None:
    assert f"{tmp_path}/no, which is not there" in refusal(f"sqlite:///{tmp_path}/no/mlflow.db")
    assert "names no file" in refusal("sqlite://")
    assert "names no file" in refusal("sqlite:///:memory:")


@pytest.mark.parametrize("form", ["{}/mlruns", "file://{}/mlruns"])
def test_folders_are_refused_with_the_sqlite_uri_to_write_instead(tmp_path: Path, form: str) -> None:
    assert f"Write sqlite:///{tmp_path}/mlruns/mlflow.db" in refusal(form.format(tmp_path))


def test_unknown_schemes_and_nonsense() -> None:
    assert "unknown scheme ftp" in refusal("ftp://host/x")
    assert "is not a URI" in refusal("http://[")
    assert "cannot be reached" in refusal("http://127.0.0.1:port")


def test_a_server_that_is_not_there_is_told_quickly() -> None:
    began = time.monotonic()
    text = refusal("http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in text
    assert "sweeps tracking up" in text
    assert time.monotonic() - began < 10


def test_a_server_that_is_no_mlflow() -> None:
    with server(lambda path, _: 404) as address:
        assert "/health with 404" in refusal(f"http://{address}")


def test_a_server_under_a_path_is_asked_under_it() -> None:
    asked = []
    with server(lambda path, _: asked.append(path) or 200) as address:
        check(f"http://{address}/mlflow/")
    assert asked == ["/mlflow/health", "/mlflow/api/2.0/mlflow/experiments/search?max_results=1"]


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    known = "Basic YW5uOnMvZWNAcmV0"  # ann:s/ec@ret

    with server(lambda path, auth: 200 if path == "/health" or auth == known else 401) as address:
        assert "Set MLFLOW_TRACKING_USERNAME" in refusal(f"http://{address}")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s/ec@ret")
        check(f"http://{address}")
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        check(f"http://ann@{address}")


def test_credentials_come_from_mlflows_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = "Basic YW5uOnMvZWNAcmV0"  # ann:s/ec@ret
    file = tmp_path / ".mlflow" / "credentials"  # the home of this test
    file.parent.mkdir()
    with server(lambda path, auth: 200 if path == "/health" or auth == known else 401) as address:
        file.write_text("mlflow_tracking_username = ann\n")  # without its section
        assert "refuses us (401)" in refusal(f"http://{address}")
        file.write_text("[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password = s/ec@ret\n")
        check(f"http://{address}")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other")  # goes first, as with MLflow itself
        assert "refuses us (401)" in refusal(f"http://{address}")


@pytest.mark.parametrize(
    ("uri", "mend"),
    [
        ("http://ann:hunter2@127.0.0.1:9", "MLFLOW_TRACKING_PASSWORD"),
        ("https://ann:hun/ter2@127.0.0.1:9", "~/.mlflow/credentials"),
        ("http://ann:hunter2@[", "MLFLOW_TRACKING_PASSWORD"),
        ("ftp://ann:hunter2@host/x", "environment"),
        ("postgresql://ann:hunter2@127.0.0.1:9/mlflow", "PGPASSWORD"),
        ("postgresql://127.0.0.1:9/mlflow?user=ann&password=hunter2", "~/.pgpass"),
        ("postgresql+nosuchdriver://ann:hunter2@127.0.0.1:9/mlflow", "PGPASSFILE"),
        ("mysql+pymysql://ann:hunter2@127.0.0.1:9/mlflow", "read_default_file"),
    ],
)
def test_a_password_is_refused_with_the_mend_and_never_shown(uri: str, mend: str, tmp_path: Path) -> None:
    text = refusal(uri)
    assert "ter2" not in text
    assert "tracking: " in text
    assert "has a password in it" in text
    assert mend in text
    assert "ter2" not in open_command(tmp_path, uri.replace("@[", "@host"))


def test_what_looks_like_a_password_in_a_files_path_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "me:and@you"
    folder.mkdir()
    check(default_uri(folder))
    assert "hunter2" not in refusal("sqlite://ann:hunter2@host/x")


def test_what_a_database_says_is_told_whole() -> None:
    text = refusal("postgresql://ann@127.0.0.1:9/mlflow")
    assert "Connection refused" in text
    assert "cannot be used" in text  # `ann` is hidden as the user, and nowhere else


def test_secrets_are_hidden_in_any_text_and_in_any_spelling() -> None:
    uri = "http://ann:p%40ss@host"
    assert without_secrets("to http://ann:p%40ss@host as p@ss", uri) == "to http://***@host as ***"
    assert without_secrets("nothing", "sqlite:////a/b.db") == "nothing"


@pytest.mark.parametrize(
    "uri",
    [
        "http://ann:hunter2@h", "http:/ann:hunter2@h", "http://:hunter2@h", "http://ann:hun/ter2@h",
        "postgresql+psycopg://ann:hunter2@h/db", "postgresql://h/db?password=hunter2", "mysql+pymysql:ann:hunter2@h/db",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dann%3BPWD%3Dhunter2", "http://h/?a=b&api_token=hunter2",
    ],
)  # fmt: skip
def test_a_password_is_found_in_every_form_and_told_in_none(uri: str) -> None:
    assert holds_secret(uri)
    assert "hunter2" not in without_secrets(f"{uri} is wrong", uri)
    with pytest.raises(TrackingError, match="has a password in it") as caught:
        check(uri)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SpecError, match="password"):
        SweepSpec(trainable="a:b", space={"lr": {"log": [0.1, 1]}}, tracking=uri)


@pytest.mark.parametrize(
    "uri",
    ["http://h:5000", "http://ann@h:5000/x", "postgresql://ann@h:5432/db?sslmode=require", "sqlite:////a:b@c/x.db"],
)
def test_a_user_or_a_path_is_no_password(uri: str) -> None:
    assert not holds_secret(uri)


def test_how_to_open_mlflow(tmp_path: Path) -> None:
    folder = tmp_path / "a sweep"
    command = open_command(folder, default_uri(folder))
    assert command.startswith("MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false ")
    assert f"server --backend-store-uri 'sqlite:///{folder}/mlflow.db' --workers 1" in command
    assert open_command(folder, "http://ann:hunter2@host:5000/x") == "http://host:5000/x"
    assert '"$MLFLOW_TRACKING_URI"' in open_command(folder, "postgresql://ann:hunter2@host/db")
    assert "--backend-store-uri postgresql://ann@host/db " in open_command(folder, "postgresql://ann@host/db")
