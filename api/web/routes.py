"""Dispatches a request to its function directly, without nested routers and wrappers.

FastAPI keeps the table of routes and describes it in `/openapi.json`; requests are matched here. A path that
this table does not have is never tried in another way: rights are looked up by the text of the path, so two
readings of a path must not differ. Some rules hold for all routes: a trailing slash changes nothing, HEAD
works where GET does, 405 names every method, and all errors have one form.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.web.answers import json_response
from api.web.errors import answer_to

Handler = Callable[..., Awaitable[Response]]
Methods = dict[str, "_Entry"]


class _Entry:
    """One function under one path.

    Parameters
    ----------
    route : APIRoute
        Its function takes the path parameters, and perhaps the request.

    Raises
    ------
    TypeError
        It takes anything else, which nobody would give to it.
    """

    __slots__ = ("handler", "names", "route", "takes_request")

    def __init__(self, route: APIRoute) -> None:
        words = [word for word in route.path.split("/") if word.startswith("{")]
        self.route = route
        self.names = [word.strip("{}") for word in words]
        self.handler: Handler = route.endpoint
        taken = set(inspect.signature(route.endpoint).parameters)
        if taken - {"request"} != set(self.names) or not inspect.iscoroutinefunction(route.endpoint):
            raise TypeError(f"the function of {route.path} takes more than the request and its path")
        self.takes_request = "request" in taken


class Routes:
    """An ASGI application over a table of routes.

    Parameters
    ----------
    routes : sequence of APIRoute
        Where two have the same path and method, the first counts.
    lifespan : ASGI application
        Called for what is no request: the start and the end of the server.
    """

    def __init__(self, routes: Sequence[APIRoute], lifespan: ASGIApp) -> None:
        self._lifespan = lifespan
        self._fixed: dict[str, Methods] = {}
        self._patterns: dict[int, list[tuple[list[str], Methods]]] = {}
        for route in routes:
            self._add(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            answer = await self._respond(request)
        except Exception as error:  # noqa: BLE001 - every error gets the same form
            answer = answer_to(error, request)
        await answer(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        """Return the response."""
        scope = request.scope
        methods, words = self._look_up(scope["path"])
        if methods is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such path")
        method = scope["method"]
        entry = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        if entry is None:
            return _not_allowed(methods)
        scope["route"] = entry.route
        given = (request,) if entry.takes_request else ()
        return await entry.handler(*given, **dict(zip(entry.names, words, strict=True)))

    def path_of(self, path: str) -> str | None:
        """Return the route's path for a request to `path`, whatever its method."""
        methods, _ = self._look_up(path)
        return None if methods is None else next(iter(methods.values())).route.path

    def _look_up(self, path: str) -> tuple[Methods | None, list[str]]:
        """Return the entries of a path by method, and the path parameters."""
        if path[-1:] == "/" and path != "/":
            path = path.rstrip("/") or "/"
        methods = self._fixed.get(path)
        if methods is not None:
            return methods, []
        return self._match(path)

    def _match(self, path: str) -> tuple[Methods | None, list[str]]:
        given = path.split("/")
        for pattern, methods in self._patterns.get(len(given), ()):
            words = []
            for wanted, word in zip(pattern, given, strict=True):
                if wanted[:1] == "{":
                    if not word:
                        break
                    words.append(word)
                elif wanted != word:
                    break
            else:
                return methods, words
        return None, []

    def _add(self, route: APIRoute) -> None:
        words = route.path.split("/")
        if "{" not in route.path:
            methods = self._fixed.setdefault(route.path, {})
        else:
            same = self._patterns.setdefault(len(words), [])
            known = [found for pattern, found in same if pattern == words]
            methods = known[0] if known else {}
            if not known:
                same.append((words, methods))
        for method in route.methods or ():
            methods.setdefault(method, _Entry(route))


class Application(FastAPI):
    """FastAPI with its table of routes and its document, and our own dispatch."""

    def __init__(self, **options: Any) -> None:
        super().__init__(openapi_url=None, **options)
        self.api_routes: list[APIRoute] = []
        self._table: Routes | None = None
        described = APIRouter()
        described.get("/openapi.json", include_in_schema=False)(self._description)
        self.include_router(described)

    async def _description(self) -> Response:
        return json_response(self.openapi())

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """Add the routes of a subject."""
        super().include_router(router, **options)
        self.api_routes += [route for route in router.routes if isinstance(route, APIRoute)]

    def path_of(self, path: str) -> str | None:
        """Return the route's path for a request to `path`, such as `/images/{image_id}`.

        None if there is none, and before the first request.
        """
        return None if self._table is None else self._table.path_of(path)

    def build_middleware_stack(self) -> ASGIApp:
        """Return the added middleware, the last added outermost, around the routes."""
        app: ASGIApp
        app = self._table = Routes(self.api_routes, self.router)
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)


def _not_allowed(methods: Methods) -> Response:
    allowed = [*methods, *(["HEAD"] if "GET" in methods and "HEAD" not in methods else [])]
    names = ", ".join(sorted(allowed))
    return json_response(
        {"message": f"this path takes {names}"},
        status=HTTPStatus.METHOD_NOT_ALLOWED,
        headers={"Allow": names},
    )
