"""A team's MLflow server before it starts: what is asked of MLflow, what is refused, and where secrets are."""

from __future__ import annotations

import configparser
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from cluster.tracking_server import (
    Admin,
    Server,
    ServerError,
    _auth_ini,
    _write_secret,
    admin_of,
    command,
    environment,
    on_loopback,
    planned,
    template,
)
from postgres import free_port
from sweeps.cli import main

PASSWORD = "correct-horse-battery"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for someone who has set nothing and has no file of credentials, in an empty folder."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def plan(folder: Path, **given: Any) -> Server:
    """The server with these options, the others left out."""
    defaults = {"store": None, "artifacts": None, "host": "127.0.0.1", "port": free_port(), "allowed_hosts": ()}
    return planned(folder, **{**defaults, "admin": None, **given})


def refusal(*arguments: str) -> str:
    """What `sweeps tracking up` says when it refuses, which takes no start of MLflow."""
    done = CliRunner().invoke(main, ["tracking", "up", "--port", str(free_port()), *arguments])
    assert done.exit_code == 2, done.output
    return done.output


def test_by_default_all_is_in_one_folder_and_on_loopback(tmp_path: Path) -> None:
    server = plan(tmp_path / "hub")
    assert server.store == f"sqlite:///{tmp_path}/hub/mlflow.db"
    assert server.artifacts == f"{tmp_path}/hub/artifacts"
    assert server.users == f"sqlite:///{tmp_path}/hub/users.db"
    words = command(server)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert "--serve-artifacts" in words
    assert "--app-name" not in words
    assert server.url == server.address == f"http://127.0.0.1:{server.port}"


def test_relative_paths_are_those_of_the_caller(tmp_path: Path) -> None:
    server = plan(Path("hub"), store="sqlite:///runs.db", artifacts="files")
    assert server.folder == tmp_path / "hub"
    assert server.store == f"sqlite:///{tmp_path}/runs.db"
    assert server.artifacts == f"{tmp_path}/files"
    assert plan(Path("hub"), artifacts="s3://bucket/files").artifacts == "s3://bucket/files"


def test_job_execution_is_off_and_the_server_is_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    told = environment(plan(tmp_path))
    assert told["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert not [name for name in told if name.startswith("MLFLOW_TRACKING_")]
    assert PASSWORD not in told.values()
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" not in told  # MLflow's own choice on loopback


def test_the_names_of_the_server_come_with_and_without_the_port(tmp_path: Path) -> None:
    server = plan(tmp_path, host="0.0.0.0", port=5099, allowed_hosts=("*.lab", "mlflow.lab", "proxy.lab:8443"))
    told = environment(server)
    assert told["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",") == [
        "localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*",
        "*.lab", "*.lab:5099", "mlflow.lab", "mlflow.lab:5099", "proxy.lab:8443",
    ]  # fmt: skip
    assert "http://mlflow.lab:5099" in told["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert server.url == "http://mlflow.lab:5099"
    assert server.address == "http://127.0.0.1:5099"


def test_no_secret_is_in_the_command_line_or_shown(tmp_path: Path) -> None:
    server = plan(tmp_path, store="postgresql://ann@db.lab/mlflow", admin=Admin("ann", PASSWORD))
    told = environment(server)
    assert told["MLFLOW_AUTH_ADMIN_PASSWORD"] == PASSWORD
    assert command(server)[-2:] == ["--app-name", "basic-auth"]
    for text in (repr(server), str(command(server)), _auth_ini(server)):
        assert PASSWORD not in text
        assert told["MLFLOW_FLASK_SERVER_SECRET_KEY"] not in text


def test_auth_keeps_its_users_with_the_runs_and_caches_who_was_right(tmp_path: Path) -> None:
    admin = Admin("ann", PASSWORD)
    ini = configparser.ConfigParser()  # with interpolation, as MLflow reads it
    ini.read_string(_auth_ini(plan(tmp_path, store="postgresql://a%40b@db.lab/mlflow", admin=admin)))
    assert ini["mlflow"]["database_uri"] == "postgresql://a%40b@db.lab/mlflow"
    assert ini.getint("mlflow", "auth_cache_ttl_seconds") == 60
    ini.read_string(_auth_ini(plan(tmp_path, admin=admin)))
    assert ini["mlflow"]["database_uri"] == f"sqlite:///{tmp_path}/users.db"


def test_the_secret_key_is_made_once_and_is_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = plan(tmp_path, admin=Admin("ann", PASSWORD))
    key = environment(server)["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    assert len(key) == 64
    assert environment(server)["MLFLOW_FLASK_SERVER_SECRET_KEY"] == key
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "of several servers")
    assert environment(server)["MLFLOW_FLASK_SERVER_SECRET_KEY"] == "of several servers"


def test_a_secret_file_is_never_anothers_to_read(tmp_path: Path) -> None:
    file = tmp_path / "auth.ini"
    file.write_text("old")
    file.chmod(0o644)
    _write_secret(file, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["auth.ini"]


def test_the_admin_comes_from_a_file_the_environment_or_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerError, match="no password is given for admin"):
        admin_of(None)
    credentials = tmp_path / "home" / ".mlflow" / "credentials"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password = 100%-of-credentials\n")
    assert admin_of(None) == Admin("ann", "100%-of-credentials")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "of-the-environment")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bea")
    assert admin_of(None) == Admin("bea", "of-the-environment")
    file = tmp_path / "password"
    file.write_text("of-the-file-itself\n")
    file.chmod(0o600)
    assert admin_of(file) == Admin("bea", "of-the-file-itself")
    credentials.write_text("no section")
    with pytest.raises(ServerError, match="credentials cannot be read"):
        admin_of(None)


def test_a_password_that_mlflow_or_others_should_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    with pytest.raises(ServerError, match=r"cannot be read \(No such file"):
        admin_of(file)
    file.write_text(PASSWORD)
    file.chmod(0o644)
    with pytest.raises(ServerError, match="chmod 600"):
        admin_of(file)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    with pytest.raises(ServerError, match="fewer than 12 characters") as caught:
        admin_of(None)
    assert "hunter2" not in str(caught.value)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        text = refusal("--port", str(other.getsockname()[1]))
    assert "cannot be listened on (Address already in use)" in text
    assert "--port" in text
    assert not Path("tracking").exists()


def test_beyond_loopback_the_names_have_to_be_given() -> None:
    assert "Give them, e.g. --allowed-hosts" in refusal("--host", "0.0.0.0")
    assert "* lets any web page" in refusal("--host", "0.0.0.0", "--allowed-hosts", "mlflow.lab, *")
    assert [on_loopback(host) for host in ("127.0.0.2", "::1", "localhost", "10.0.0.7", "::", "mlflow.lab")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (["--store", "postgresql://ann:hunter2@127.0.0.1:9/mlflow"], "PGPASSWORD"),
        (["--store", "postgresql://127.0.0.1:9/mlflow?user=ann&password=hunter2"], "~/.pgpass"),
        (["--store", "postgresql+psycopg://ann:hun/ter2@127.0.0.1:9/mlflow"], "PGPASSFILE"),
        (["--artifacts", "ftp://ann:hunter2@127.0.0.1/files"], "Leave it out"),
    ],
)
def test_a_uri_with_a_password_is_refused_with_the_mend(arguments: list[str], mend: str) -> None:
    text = refusal(*arguments)
    assert "has a password in it" in text
    assert mend in text
    assert "ter2" not in text


def test_stores_that_cannot_be_used() -> None:
    assert "mysql is neither sqlite nor PostgreSQL" in refusal("--store", "mysql://ann@db.lab/mlflow")
    assert "Connection refused" in refusal("--store", f"postgresql://ann@127.0.0.1:{free_port()}/mlflow")
    assert "no, which is not there" in refusal("--store", "sqlite:///no/mlflow.db")
    Path("file").touch()
    assert "cannot be made (File exists)" in refusal("--folder", "file")


def test_a_password_file_without_auth_is_no_silent_option() -> None:
    assert "Add --auth" in refusal("--password-file", "x")


def test_the_systemd_unit_keeps_secrets_out_and_runs_this_sweeps(tmp_path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(template("systemd"))
    service = unit["Service"]
    assert service["ExecStart"].startswith(f"{Path(sys.executable).parent}/sweeps tracking up --folder %S/tunewright ")
    assert service["ExecStart"].endswith("--auth --password-file %d/admin-password $OPTIONS")
    assert service["LoadCredential"].startswith("admin-password:")
    assert (service["DynamicUser"], service["StateDirectory"]) == ("yes", "tunewright")
    if analyze := shutil.which("systemd-analyze"):
        file = tmp_path / "tracking.service"
        file.write_text(template("systemd"))
        done = subprocess.run([analyze, "verify", file], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_kubernetes_manifest_is_of_one_piece() -> None:
    claim, deployment, service = YAML(typ="safe").load_all(template("kubernetes"))
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes.keys() == {mount["name"] for mount in container["volumeMounts"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert volumes["secrets"]["secret"]["defaultMode"] == 0o440  # not for everyone, or `up` refuses it
    (port,) = service["spec"]["ports"]
    assert port["port"] == container["ports"][0]["containerPort"] == 5000


def test_the_manifests_command_line_is_one_that_up_takes() -> None:
    _, deployment, service = YAML(typ="safe").load_all(template("kubernetes"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sweeps", "tracking", "up"]
    up = main.commands["tracking"].commands["up"]  # type: ignore[attr-defined]
    given = up.make_context("up", list(container["args"])).params
    assert given["host"] == "0.0.0.0"
    assert given["allowed_hosts"].split(",")[0] == service["metadata"]["name"]
    secrets = [variable for variable in container["env"] if "PASSWORD" in variable["name"]]
    assert [list(variable["valueFrom"]) for variable in secrets] == [["secretKeyRef"]]


def test_templates_are_printed_by_command() -> None:
    for kind in ("systemd", "kubernetes"):
        done = CliRunner().invoke(main, ["tracking", "template", kind])
        assert (done.exit_code, done.output) == (0, template(kind))
