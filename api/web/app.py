"""The front end's application: all routes behind the limits, over services that load in the background.

Knows neither the mode nor the settings; the composition roots pass in what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from api.access.policy import AccessPolicy
from api.metrics.instruments import Instruments
from api.metrics.middleware import RequestCounter
from api.web.document.assembly import describe
from api.web.guards.auth import AccessControl
from api.web.guards.limits import LimitOptions, RequestLimits
from api.web.guards.queue_capacity import QueueCapacityCheck
from api.web.loading import OnFailure, Startup, create_loading_app
from api.web.routes import Application
from api.web.services import Services
from api.web.subjects import (
    batch,
    contents,
    duplicates,
    health,
    images,
    jobs,
    metrics,
    page,
    previews,
    query_batch,
    search,
)

if TYPE_CHECKING:
    from api.fetch.fetcher import Fetcher


def create_front_end(
    load: Callable[[Startup[Services]], Services],
    *,
    limits: LimitOptions,
    access: AccessPolicy,
    instruments: Instruments,
    fetcher: Fetcher | None,
    page_options: page.PageOptions,
    on_ready: Callable[[str], None],
    on_failure: OnFailure,
) -> Application:
    """Return the front end.

    Parameters
    ----------
    load : callable
        Builds the services of one mode, in a thread.
    limits : LimitOptions
        Limits of requests.
    access : AccessPolicy
        Who may do what, and how often.
    instruments : Instruments
        What `/metrics` shows.
    fetcher : Fetcher or None
        Fetches what `url=` names; None if that is off.
    page_options : PageOptions
        What the web page needs to know of this server.
    on_ready, on_failure : callable
        See `loading.create_loading_app`.
    """
    app = create_loading_app("iqdb", load, on_ready=on_ready, on_failure=on_failure)
    app.state.page = page_options
    app.state.access = access
    app.state.instruments = instruments
    app.state.fetcher = fetcher
    for subject in (
        search,
        query_batch,
        duplicates,
        images,
        previews,
        batch,
        contents,
        jobs,
        health,
        metrics,
        page,
    ):
        app.include_router(subject.router)
    app.add_middleware(QueueCapacityCheck)
    describe(app)
    app.add_middleware(AccessControl, policy=access)
    app.add_middleware(RequestLimits, options=limits)
    app.add_middleware(RequestCounter, instruments=instruments, route_of=app.path_of)
    return app
