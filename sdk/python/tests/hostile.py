"""Servers that do what no server should.

Owns: what they do to a connection or a call. Does not own: what a client must make of it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc


@contextlib.contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accept connections and do `behave` to each; yields the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            with contextlib.suppress(OSError):
                behave(connection)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Wakes the thread that accepts.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for one in kept:
            one.close()


def say_nothing(_: socket.socket) -> None:
    """Keep the connection and never answer."""


def hang_up(connection: socket.socket) -> None:
    """Close at once."""
    connection.close()


def speak_http1(connection: socket.socket) -> None:
    """Answer as a web server of another kind."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def speak_garbage(connection: socket.socket) -> None:
    """Answer with bytes that mean nothing."""
    connection.sendall(bytes(range(256)) * 16)


def half_close(connection: socket.socket) -> None:
    """Say at once that nothing will ever be said, and keep listening."""
    connection.shutdown(socket.SHUT_WR)


Answer = Callable[[str, bytes, grpc.ServicerContext], Any]


@contextlib.contextmanager
def grpc_server(unary: Answer | None = None, stream: Answer | None = None) -> Iterator[str]:
    """Speak gRPC; what it answers is bytes, whatever the method. Yields the address."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
            method = str(call.method)
            if stream is not None and method.endswith(("/Watch", "/Logs")):
                return grpc.unary_stream_rpc_method_handler(
                    lambda request, context: stream(method, request, context)
                )
            if unary is not None:
                return grpc.unary_unary_rpc_method_handler(
                    lambda request, context: unary(method, request, context)
                )
            return None

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def never(_method: str, _request: bytes, context: grpc.ServicerContext) -> bytes:
    """Take the call and never answer it."""
    over = threading.Event()
    # It may be over already.
    if context.add_callback(over.set):
        over.wait()
    return b""


def ends_with(code: grpc.StatusCode, message: str = "as told", details: bytes | None = None) -> Answer:
    """Answer each call with a status."""

    def answer(_method: str, _request: bytes, context: grpc.ServicerContext) -> bytes:
        if details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.set_code(code)
        context.set_details(message)
        return b""

    return answer


@contextlib.contextmanager
def unanswered_port() -> Iterator[str]:
    """Listen so that connecting is neither done nor refused, as behind a firewall that drops; yields the address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting: list[socket.socket] = []
    try:
        # Until nobody fits any more into the queue of those that wait to be accepted.
        while len(waiting) < 16:
            one = socket.socket()
            waiting.append(one)
            one.settimeout(0.2)
            try:
                one.connect(listener.getsockname())
            except TimeoutError:
                break
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for one in (*waiting, listener):
            one.close()
