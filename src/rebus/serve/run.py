"""Run an application with uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from rebus.serve.app import create_app
from rebus.serve.connection import patient
from rebus.serve.context import Context
from rebus.serve.errors import NotReadyError, ServeError
from rebus.serve.loading import Served
from rebus.serve.settings import ServeSettings

SWITCH = 0.001  # seconds after which a thread that computes in Python lets the event loop have its turn
AFTER = 2.0  # seconds after the drain in which streams tell that they end


class Server(uvicorn.Server):
    """uvicorn's, which tells the application that it stops, before it does."""

    def __init__(self, config: uvicorn.Config, context: Context, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._context, self._on_start = context, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        sys.setswitchinterval(min(SWITCH, sys.getswitchinterval()))
        app = self.config.app
        if isinstance(app, FastAPI):
            app.openapi()  # made once, before anybody waits for an answer
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what is new; let what runs finish; end the rest with a word; put the model away."""
        served, settings = self._context.served, self._context.settings
        if served is not None:
            served.drain()

        def end() -> None:
            if served is not None and served.loaded and served.writer is not None:
                for stream in list(served.writer.active):
                    stream.fail(NotReadyError("draining"))

        timer = asyncio.get_running_loop().call_later(settings.drain, end)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            if served is not None:
                served.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Obey SIGINT and SIGTERM while it runs; a server that stopped as it was told to has not failed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the second one ends it at once."""
        if self._context.served is not None:
            self._context.served.drain()
        super().handle_exit(sig, frame)


def run_server(app: FastAPI, settings: ServeSettings, *, on_start: Callable[[str], None] | None = None) -> None:
    """Listen and answer until SIGINT or SIGTERM, then finish what can be finished within ``settings.drain`` seconds.

    Args:
        app: made by ``create_app``, perhaps with more mounted on it.
        settings: where to listen.
        on_start: called with the address once it is listened to, such as ``http://127.0.0.1:8000``.

    Raises:
        ServeError: the port is taken, or the address is not this machine's.
    """
    listener = listening(settings)
    with logged():
        make_server(app, settings, listener, on_start).run(sockets=[listener])


def make_server(
    app: FastAPI, settings: ServeSettings, listener: socket.socket, on_start: Callable[[str], None] | None = None
) -> Server:
    """The server for a socket that listens; ``run_server`` runs it, tests run it in a thread."""
    context: Context = app.state.context
    limits = settings.limits
    config = uvicorn.Config(
        app,
        http=patient(limits.header_seconds, 2 * limits.connections),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=2 * int(limits.header_kb * 1024),  # the guard tells what is beyond once
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.drain + AFTER),
    )
    address = address_of(listener)
    server = Server(config, context, lambda: on_start(address) if on_start is not None else None)
    context.connections = lambda: len(server.server_state.connections)
    return server


def listening(settings: ServeSettings) -> socket.socket:
    """A socket bound to the settings' address. Raises ServeError where that cannot be."""
    where = f"--host {settings.host} --port {settings.port}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ServeError(where, "an address of this machine", "no such name", "use 127.0.0.1 or a real name") from error
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(min(settings.limits.connections, 2048))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            do = "stop the other server, or choose another port: --port 0 takes any that is free"
            raise ServeError(where, "a free port", "that another program listens to it", do) from error
        do = "use 127.0.0.1, an address of this machine, or a port above 1023"
        raise ServeError(where, "an address to listen on", error.strerror or type(error).__name__, do) from error
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """``http://127.0.0.1:8000`` of a socket that is bound."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """Lines of the server's on stderr; none of them holds what was asked, unless that was wanted."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = {logging.getLogger("rebus.serve"): logging.INFO, logging.getLogger("uvicorn.error"): logging.WARNING}
    before = {logger: (logger.handlers, logger.propagate, logger.level) for logger in loggers}
    for logger, level in loggers.items():
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, (handlers, propagate, level) in before.items():
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def serve_model(source: str | Path, settings: ServeSettings, *, log: Callable[[str], None]) -> None:
    """Load a model and serve it until the process is told to stop.

    Args:
        source: a Run, a Hugging Face folder, a .gguf file or a hub id.
        settings: the server's.
        log: prints a line for people.

    Raises:
        RebusError: the model cannot be loaded, or the port cannot be had.
    """
    served = Served(source, settings, log=log)
    app, listener = create_app(settings, served), listening(settings)
    server = make_server(app, settings, listener)
    address = address_of(listener)

    def loaded(error: Exception | None) -> None:
        if error is None:
            log(f"{served.name} answers at {address}/v1 (stop with Ctrl+C)")
        else:
            server.should_exit = True

    log(f"listening at {address}; loading {source}")
    with logged():
        served.start(loaded)
        server.run(sockets=[listener])
    if served.error is not None:
        raise served.error
