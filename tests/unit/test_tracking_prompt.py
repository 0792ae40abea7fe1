"""Answers that come in two parts, as a server of several workers sends them, are not waited for."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sweeps.tracking.prompt import Prompt, PromptTLS, answer_promptly

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux only")
CALLS = 15
HEAD, BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"{}"


@pytest.fixture
def port() -> Iterator[int]:
    """A server that sends head and body apart, the body once the head was acknowledged (Nagle, a socket's default)."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while connection.recv(2**16):
                connection.sendall(HEAD)
                connection.sendall(BODY)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it was closed
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def milliseconds_a_call(port: int, connection: type[HTTPConnection]) -> float:
    """The median over calls on one connection, the first ones left out: Linux acknowledges those at once."""
    seconds = []
    with HTTPConnectionPool("127.0.0.1", port, maxsize=1) as pool:
        pool.ConnectionCls = connection
        for _ in range(CALLS):
            began = time.perf_counter()
            assert pool.request("GET", "/").data == BODY
            seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[5:])


def test_an_answer_in_two_parts_is_not_waited_for(port: int) -> None:
    usual, prompt = milliseconds_a_call(port, HTTPConnection), milliseconds_a_call(port, Prompt)
    assert prompt < usual / 2, "or this machine does not put acknowledgements off, and it shows nothing here"


def test_it_counts_for_every_connection_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTTPConnectionPool, "ConnectionCls", HTTPConnection)
    monkeypatch.setattr(HTTPSConnectionPool, "ConnectionCls", HTTPSConnectionPool.ConnectionCls)
    answer_promptly()
    assert isinstance(HTTPConnectionPool("127.0.0.1")._new_conn(), Prompt)
    assert isinstance(HTTPSConnectionPool("127.0.0.1")._new_conn(), PromptTLS)
