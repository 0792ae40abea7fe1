"""Tracking URIs: the default one, whether one can be used, how to open MLflow on it. No mlflow import.

Asked by the driver and the command line before a sweep starts, so that a wrong URI costs seconds and not the record
of a night. A secret in a URI never reaches a message: whatever is shown goes through `without_secrets`.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from sweeps.errors import TrackingError
from sweeps.secrets import holds_secret, without_secrets
from sweeps.storage import Folder, at_hand

DATABASES = ("postgresql", "mysql", "mssql")
TIMEOUT_S = 5
SQLITE = "sqlite:///"
USER, PASSWORD = "mlflow_tracking_username", "mlflow_tracking_password"
"""As ~/.mlflow/credentials calls them."""
WHO = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write ~/.mlflow/credentials."


def default_uri(folder: Folder) -> str:
    """An sqlite file in the sweep's folder: needs no server, and any number of sweeps never meet in it."""
    return f"{SQLITE}{at_hand(folder).absolute()}/mlflow.db"


def check(uri: str) -> None:
    """Raises TrackingError, saying what to do, when MLflow cannot be reached at this URI or not be used there."""
    refuse_password(uri)
    try:
        scheme = urlsplit(uri).scheme
    except ValueError:
        raise wrong(uri, "is not a URI", "Write e.g. http://host:5000 or sqlite:////path/mlflow.db.") from None
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme.split("+")[0] in DATABASES:
        _check_database(uri)
    elif scheme in ("", "file"):
        path = Path(unquote(urlsplit(uri).path) if scheme else uri).absolute()
        raise wrong(uri, "is a folder, and MLflow keeps no runs in folders any more", f"Write {default_uri(path)}.")
    else:
        known = "http, https, sqlite, postgresql, mysql, mssql"
        raise wrong(uri, f"has the unknown scheme {scheme}", f"Use one of {known}.")


def missing(uri: str) -> bool:
    """Whether it is an sqlite file that is not there: whoever asks MLflow for something in it would make it."""
    return uri.startswith(SQLITE) and not Path(unquote(uri.removeprefix(SQLITE).partition("?")[0])).exists()


def refuse_password(uri: str) -> None:
    """Raises TrackingError for a URI with a password, see `secrets.holds_secret`; the mend says where it belongs."""
    if holds_secret(uri):
        scheme = uri.partition(":")[0].partition("+")[0].lower()
        elsewhere = {
            "postgresql": "PGPASSWORD, a file that PGPASSFILE names, or ~/.pgpass gives it.",
            "mysql": "A file gives it: ?read_default_file=~/.my.cnf",
            "http": WHO,
            "https": WHO,
        }
        raise wrong(uri, "has a password in it", f"Leave it out. {elsewhere.get(scheme, 'The environment gives it.')}")


def is_server(uri: str) -> bool:
    """Whether a server is asked there, and not a database opened."""
    return urlsplit(uri).scheme in ("http", "https")


def open_command(folder: Folder, uri: str) -> str:
    """What a person types to see the sweep: the command that starts MLflow's UI on a database, or a server's address.

    `folder` is the sweep's; its runs carry the tag `sweep` with the folder's name.
    """
    if is_server(uri):
        return re.sub(r"://.*@", "://", uri)
    found = shutil.which("mlflow")  # another environment's may be of another version
    ours = found is not None and Path(found).parent == Path(sys.executable).parent
    mlflow = "mlflow" if ours else f"{shlex.quote(sys.executable)} -m mlflow"
    # Jobs off and one worker: 2 processes (0.5 GB) instead of 14, and no endpoint that runs code.
    store = '"$MLFLOW_TRACKING_URI"' if holds_secret(uri) else shlex.quote(uri)
    server = f"{mlflow} server --backend-store-uri {store} --workers 1 --port 5000"
    return f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {server}"


def experiment_id(uri: str, name: str) -> str:
    """The id of a server's experiment; empty where there is none, or no server is at this URI or answers."""
    if not is_server(uri):
        return ""
    query = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(name, safe='')}"
    try:
        code, body = _get(uri, query)
        return str(json.loads(body)["experiment"]["experiment_id"]) if code == 200 else ""
    except (OSError, HTTPException, ValueError, KeyError):
        return ""


def server_version(uri: str) -> str:
    """The version of MLflow that a server says it is; empty where it does not."""
    try:
        code, body = _get(uri, "/version")
    except (OSError, HTTPException, ValueError):
        return ""
    said = body.decode(errors="replace").strip()
    return said if code == 200 and re.fullmatch(r"\d+(\.\w+)+", said) else ""


def wrong(uri: str, problem: str, mend: str) -> TrackingError:
    """The error for a URI, its secrets hidden."""
    return TrackingError(without_secrets(f"tracking: {uri} {problem}.\n  {mend}", uri))


def _check_server(uri: str) -> None:
    start = "Start one with `sweeps tracking up`, or mend the address; without --tracking-uri there is an sqlite file."
    try:
        health, _ = _get(uri, "/health")
    except (OSError, HTTPException, ValueError) as error:  # refused, no such host, timed out, not HTTP at all
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise wrong(uri, f"cannot be reached ({reason})", start) from None
    if health != 200:
        raise wrong(uri, f"answers /health with {health}, so MLflow is not there", "Check host, port and path.")
    if any(os.environ.get(name) for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")):
        return  # MLflow signs its requests by a plugin; a request of ours would be refused without meaning anything
    try:
        code, _ = _get(uri, "/api/2.0/mlflow/experiments/search?max_results=1")
    except (OSError, HTTPException) as error:
        raise wrong(uri, f"is up but does not answer a search ({error})", "See the server's log.") from None
    if code in (401, 403):
        mend = f"{WHO} MLFLOW_TRACKING_TOKEN will do as well."
        if code == 403:
            mend += " If they are set: start the server with --allowed-hosts for this host and port."
        raise wrong(uri, f"refuses us ({code})", mend)
    if code != 200:
        raise wrong(uri, f"is up but answers a search with {code}", "See the server's log.")


def _get(uri: str, path: str) -> tuple[int, bytes]:
    """The status and the body of a GET with the credentials and the TLS settings that MLflow's client would use."""
    parts = urlsplit(uri)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}{path}"
    request = urllib.request.Request(address)
    kept = _credentials_file()
    user = unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME") or kept.get(USER, "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or kept.get(PASSWORD, "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        request.add_header("Authorization", f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")
    elif token:
        request.add_header("Authorization", f"Bearer {token}")
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
        if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""


def _credentials_file() -> dict[str, str]:
    """What ~/.mlflow/credentials gives MLflow's client; nothing where there is none that can be read."""
    found = configparser.ConfigParser()
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        found.read(Path("~/.mlflow/credentials").expanduser())
        return dict(found["mlflow"]) if "mlflow" in found else {}
    return {}


def _check_sqlite(uri: str) -> None:
    name = uri.removeprefix(SQLITE).partition("?")[0]
    if not uri.startswith(SQLITE) or name in ("", ":memory:"):
        raise wrong(uri, "names no file", "Write sqlite:/// and an absolute path, four slashes in all.")
    file = Path(name).absolute()
    if not file.parent.is_dir():
        raise wrong(uri, f"lies in {file.parent}, which is not there", "Make the folder, or mend the path.")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise wrong(uri, "cannot be written", "Mend the permissions, or choose another folder.")
    if not file.exists():
        return  # connecting would leave an empty file behind
    try:
        connection = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=TIMEOUT_S)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise wrong(uri, f"is no database that can be read ({error})", "Choose another file.") from None


def _check_database(uri: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    seconds = {"timeout" if uri.startswith("mssql") else "connect_timeout": TIMEOUT_S}
    try:
        engine = create_engine(uri, connect_args=seconds)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        drivers = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
        package = drivers.get(error.name or "", error.name)
        raise wrong(uri, f"needs the package {package}", f"Install it: pip install '{package}'.") from None
    except (SQLAlchemyError, ValueError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).partition("\n(Background")[0].split())
        raise wrong(uri, f"cannot be used ({reason})", "Check host, database and user; PGPASSWORD works.") from None
