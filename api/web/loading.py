"""An application whose services load in the background: it listens at once and answers 503 until then."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from fastapi import FastAPI
from starlette.requests import Request

from api.web.errors import install_error_handlers
from api.web.routes import Application
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
OnDeath = Callable[[BaseException], None]


class Startup(Generic[T]):
    """The start of one application: how far it is and, once it is over, the services.

    Until then every route answers 503: loading a large index takes seconds, and a client is better told so
    than refused the connection.
    """

    def __init__(self) -> None:
        self.services: T | None = None
        self.progress = "starting"
        self._loop: asyncio.AbstractEventLoop | None = None

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
    on_failure: OnDeath,
) -> FastAPI:
    """Return an application without routes, whose services are loaded in the background once it runs.

    Parameters
    ----------
    title : str
    load : callable
        Builds the services, in a thread; gets the startup, to tell its progress.
    on_ready : callable
        Called with a summary once everything is loaded.
    on_failure : callable
        Called with the reason when loading fails; is to end the process.
    """
    startup: Startup[T] = Startup()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        startup.enter()

        async def load_services() -> None:
            try:
                startup.services = await asyncio.to_thread(load, startup)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the process must end with it
                on_failure(error)
            else:
                # What was loaded stays: a full collection that walks over it stops everything for 50 ms.
                gc.collect()
                gc.freeze()
                on_ready(startup.services.summary)

        loading = asyncio.create_task(load_services())
        try:
            yield
        finally:
            await loading
            if startup.services is not None:
                await asyncio.to_thread(startup.services.close)

    app = Application(title=title, lifespan=lifespan)
    app.state.startup = startup
    install_error_handlers(app)
    return app


def startup_of(request: Request) -> Any:
    """Return the startup of the application that serves `request`."""
    return request.app.state.startup
