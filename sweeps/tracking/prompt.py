"""Calls of MLflow's client without the 40 ms that a server's answer may lie about between two machines' TCP stacks.

A server of several workers (uvicorn's, as `mlflow server` starts them) sends an answer's head and body apart, and the
body only once the head was acknowledged (Nagle's algorithm, which its sockets keep); this side puts that off for 40 ms,
in the hope of something to send along (delayed acknowledgements). Each of the two saves packets, together they make a
call of 8 ms one of 52 ms. So this side acknowledges at once. Linux only; elsewhere calls are as they were.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


def answer_promptly() -> None:
    """Have every connection that this process opens from now on acknowledge answers at once."""
    if hasattr(socket, "TCP_QUICKACK"):
        HTTPConnectionPool.ConnectionCls = Prompt
        HTTPSConnectionPool.ConnectionCls = PromptTLS


class Prompt(HTTPConnection):
    """Acknowledges answers at once."""

    def getresponse(self) -> Any:
        at_once(self.sock)
        return super().getresponse()


class PromptTLS(HTTPSConnection):
    """The same, encrypted."""

    def getresponse(self) -> Any:
        at_once(self.sock)
        return super().getresponse()


def at_once(connected: socket.socket) -> None:
    """Until something is sent again, so it is asked for before each answer."""
    with contextlib.suppress(AttributeError, OSError):  # TLS within TLS is no socket
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
