"""A server that misbehaves in front of a real one: it refuses, hangs, or loses answers, as it is told.

What it does not spoil it passes on, so that what arrived can be counted behind it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]
"""Status and JSON."""


@dataclass
class Faulty:
    """How a server misbehaves just now; the number of requests that it got."""

    port: int
    spoil: Callable[[str, dict[str, Any]], Answer | None] = lambda path, body: None
    """Given a request's path and JSON: the answer that it gets without being passed on, None to pass it on."""
    lose: Callable[[str, dict[str, Any]], bool] = lambda path, body: False
    """Whether a request is passed on and its answer never comes."""
    let_go: threading.Event = field(default_factory=threading.Event)
    """Cleared while it hangs: what comes then is passed on later, its sender long gone."""
    requests: int = 0

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def faulty(behind: int, patience_s: float = 120.0) -> Iterator[Faulty]:
    """A server on loopback in front of the one on the port `behind`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing: a test reads what the client says."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):  # whoever asked is gone
                self.close_connection = True

        def pass_on(self) -> None:
            state.requests += 1
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw) if raw[:1] == b"{" else {}
            state.let_go.wait(patience_s)
            spoilt = state.spoil(self.path, body)
            if spoilt is not None:
                self.tell(spoilt[0], "application/json", json.dumps(spoilt[1]).encode())
                return
            server = HTTPConnection("127.0.0.1", behind, timeout=patience_s)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            server.request(self.command, self.path, raw or None, headers)
            answer = server.getresponse()
            content = answer.read()
            server.close()
            if state.lose(self.path, body):
                self.close_connection = True
                return
            self.tell(answer.status, answer.getheader("Content-Type", "application/json"), content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

        def tell(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Faulty(int(server.server_address[1]))
    state.let_go.set()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
