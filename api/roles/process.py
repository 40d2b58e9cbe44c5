"""Runs an ASGI application under uvicorn as a well-behaved process.

Prints one ready line. SIGINT, SIGTERM and SIGHUP finish requests in flight and exit 0; a second one ends at
once. A failure exits 1 with one sentence, an invalid setting 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from api.roles.connections import Acceptor, BoundedProtocol
from api.roles.messages import say
from iqdb_core.errors import ConfigError, IqdbError, WrongUsage
from iqdb_core.process_exit import exit_now

log = logging.getLogger(__name__)

GRACE_S = 30
"""How long requests in flight may take to finish after a signal, seconds."""
STOP_S = 1.8
"""How long a server that is still loading may take to end after a signal, seconds."""
KEEP_ALIVE_S = 5
"""How long a connection may be idle between two requests, seconds; a proxy should close it earlier."""
BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn's server with our way of accepting connections and of ending.

    Parameters
    ----------
    config : uvicorn.Config
    on_signal : callable of (int)
        Called in the main thread, in a signal handler.
    """

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Pass signals on; uvicorn would raise them again after its shutdown, and ignores SIGHUP.

        SIGHUP stays ignored where it is, as under `nohup`.
        """
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        previous = {
            number: signal.signal(number, lambda caught, _: self._on_signal(caught)) for number in numbers
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                # A closed terminal and its shell send one SIGHUP each: the second may come any moment.
                is_over = number == signal.SIGHUP and self.should_exit
                signal.signal(number, signal.SIG_IGN if is_over else handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving on `sockets`."""
        await super().startup(sockets=[])
        self.servers = [Acceptor(listener, self) for listener in sockets or []]  # type: ignore[misc]

    async def on_tick(self, counter: int) -> bool:
        """Check connections once a second; return whether to end."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.end_if_slow(now)
        return await super().on_tick(counter)


class Process:
    """One server process: address, ready line, exit code."""

    def __init__(self, host: str, port: int) -> None:
        self._sockets = _bound(host, port)
        self._host = host
        self._port = self._sockets[0].getsockname()[1]
        self._server: _Server | None = None
        self._exit_code = 0
        self._is_ready = False
        self._is_stopping = False
        self._on_stop: Callable[[], None] | None = None

    @property
    def url(self) -> str:
        """The URL of the server, with the port that it got if port 0 was asked for."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def announce(self, summary: str) -> None:
        """Print the line that says the server is ready on standard output, unless it is ending already."""
        if self._is_stopping:
            return
        self._is_ready = True
        sys.stdout.write(f"iqdb: ready on {self.url} with {summary}\n")
        sys.stdout.flush()

    def fail(self, error: BaseException) -> None:
        """End the process with an error; from any thread. Exit code 2 for wrong usage, else 1."""
        self._exit_code = 2 if isinstance(error, WrongUsage) else 1
        if isinstance(error, IqdbError):
            say(str(error))
        else:
            log.critical("the server must end", exc_info=error, extra={"action": "death"})
        if self._server is not None:
            self._server.should_exit = True

    def run(self, app: ASGIApp, *, access_log: bool, on_stop: Callable[[], None]) -> int:
        """Serve until a signal or `fail`; return the exit code.

        The first SIGINT, SIGTERM or SIGHUP finishes requests in flight, closes everything and counts as
        success; while the server is still loading this takes at most `STOP_S`. The second one ends the
        process at once, unless it is a SIGHUP. `on_stop` is called at the first one, to end what delays
        requests in flight.
        """
        if access_log:
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            log_config=None,
            access_log=access_log,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="on",
        )
        self._on_stop = on_stop
        self._server = _Server(config, self._on_signal)
        self._server.run(sockets=self._sockets)
        return self._exit_code

    def _on_signal(self, number: int) -> None:
        if self._is_stopping:
            if number == signal.SIGHUP:
                return
            exit_now(128 + number)
        self._is_stopping = True
        if self._server is not None:
            self._server.should_exit = True
        if self._on_stop is not None:
            self._on_stop()
        if not self._is_ready:
            last = threading.Timer(STOP_S, exit_now, [128 + number])
            last.daemon = True
            last.start()


def _bound(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`: clients of "localhost" may try IPv4 or IPv6 first."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        families = sorted({(family, address[0]) for family, _, _, _, address in found})  # IPv4 comes first
        listeners = [_listening(*families[0], port)]
    except UnicodeError:
        raise WrongUsage(f"{host!r} is not the name of a host to listen on") from None
    except (OSError, OverflowError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}") from exc
    for family, address in families[1:]:
        try:
            listeners.append(_listening(family, address, listeners[0].getsockname()[1]))
        except OSError as exc:
            log.info("not listening on %s: %s", address, exc, extra={"action": "address_skipped"})
    return listeners


def _listening(family: int, address: object, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        # Listen at once: clients that connect while the index loads get an answer instead of a refusal.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
