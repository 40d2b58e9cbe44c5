"""An application whose services load in the background: it listens at once and answers 503 until then."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from fastapi import FastAPI
from starlette.requests import Request

from api.web.routes import Application
from iqdb_core.detached import in_detached_thread
from iqdb_core.errors import IndexNotReady


class Closable(Protocol):
    """Services that can be loaded."""

    @property
    def summary(self) -> str:
        """What is being served, for the ready line."""

    @property
    def close(self) -> Callable[[], None]:
        """Finish what is in flight and free everything. Blocking."""


T = TypeVar("T", bound=Closable)
OnFailure = Callable[[BaseException], None]

STOP_S: Final = 0.8
"""How long loading may take to reach its next step after it was told to end, seconds."""


class Stopped(Exception):
    """The server was told to end while it was loading."""


class Startup(Generic[T]):
    """The start of one application: its progress and, once that is complete, the services.

    Until then every route answers 503: loading a large index takes seconds, and an answer that says so is
    better than a refused connection.
    """

    def __init__(self) -> None:
        self.services: T | None = None
        self.progress = "starting"
        self.stack = ExitStack()
        """Closes what has been made so far; `load` registers everything that must be closed."""
        self.is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_stop: list[Callable[[], None]] = []
        self._on_signal: list[Callable[[], None]] = []

    def on_stop(self, end: Callable[[], None]) -> None:
        """Register a call for the moment when the application stops: it ends what loading waits for."""
        self._on_stop.append(end)

    def on_signal(self, begin_shutdown: Callable[[], None]) -> None:
        """Register a call for the moment when the process is told to end: it ends what delays requests.

        It is called in a signal handler, so it may only set a flag, or ask the loop to do something.
        """
        self._on_signal.append(begin_shutdown)

    def begin_shutdown(self) -> None:
        """End the waiting of requests that only wait."""
        for end in self._on_signal:
            end()

    def step(self, progress: str) -> None:
        """Report progress. Raises Stopped if the application is stopping."""
        self.progress = progress
        if self.is_stopping:
            raise Stopped

    def stop(self) -> None:
        """End loading at its next step, and everything that it waits for."""
        self.is_stopping = True
        for end in self._on_stop:
            end()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that serves the requests, for services that wake them from other threads."""
        if self._loop is None:
            raise RuntimeError("the application is not running")
        return self._loop

    def enter(self) -> None:
        """Remember the running loop."""
        self._loop = asyncio.get_running_loop()

    def require(self) -> T:
        """Return the services; raises IndexNotReady while they are loading."""
        if self.services is None:
            raise IndexNotReady(f"the server is starting: {self.progress}")
        return self.services


def create_loading_app(
    title: str,
    load: Callable[[Startup[T]], T],
    *,
    on_ready: Callable[[str], None],
    on_failure: OnFailure,
) -> Application:
    """Return an application without routes, whose services are loaded in the background once it runs.

    Parameters
    ----------
    title : str
    load : callable
        Builds the services, in a thread; reports its progress to the startup.
    on_ready : callable
        Called with a summary once everything is loaded.
    on_failure : callable
        Called with the reason when loading fails; has to end the process.
    """
    startup: Startup[T] = Startup()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        startup.enter()

        async def load_services() -> None:
            try:
                startup.services = await in_detached_thread(partial(load, startup), name="load")
            except (Stopped, asyncio.CancelledError):
                return  # the server was stopped before it was ready
            except BaseException as error:  # noqa: BLE001 - whatever it is, the process must end with it
                if not startup.is_stopping:  # otherwise loading failed because it was stopped
                    on_failure(error)
                return
            if not startup.is_stopping:
                # What was loaded stays: a full collection over it would stop everything for 50 ms.
                gc.collect()
                gc.freeze()
                on_ready(startup.services.summary)

        loading = asyncio.create_task(load_services())
        try:
            yield
        finally:
            startup.stop()
            await asyncio.wait({loading}, timeout=STOP_S)
            # A load that is stuck cannot be ended; what it has made so far can be closed.
            close = startup.stack.close if startup.services is None else startup.services.close
            await asyncio.to_thread(close)

    app = Application(title=title, lifespan=lifespan)
    app.state.startup = startup
    return app


def startup_of(request: Request) -> Any:
    """Return the startup of the application that serves `request`."""
    return request.app.state.startup
