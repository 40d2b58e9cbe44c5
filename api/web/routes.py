"""Dispatches a request to its function directly, without nested routers and wrappers.

FastAPI keeps the table of routes and describes it in `/openapi.json`; requests are matched here. A function
that needs more of FastAPI than the request and its path parameters is called by FastAPI itself. A path that
this table does not have is never tried in another way: rights are looked up by the text of the path, so two
readings of a path must not differ. Some rules hold for all routes: a trailing slash changes nothing, HEAD
works where GET does, 405 names every method, and all errors have one form.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.web.answers import json_response
from api.web.errors import answer_to

Handler = Callable[..., Awaitable[Response]]
Methods = dict[str, "_Entry"]


class _Entry:
    """One function under one path.

    Parameters
    ----------
    route : APIRoute
    handler : callable, optional
        Takes the path parameters, and perhaps the request; None if FastAPI has to call it.
    names : list of str
        Names of the path parameters.
    """

    __slots__ = ("handler", "names", "route", "takes_request")

    def __init__(self, route: APIRoute) -> None:
        words = [word for word in route.path.split("/") if word.startswith("{")]
        self.route = route
        self.names = [word.strip("{}") for word in words]
        taken = set(inspect.signature(route.endpoint).parameters)
        is_plain = taken - {"request"} == set(self.names) and inspect.iscoroutinefunction(route.endpoint)
        self.handler: Handler | None = route.endpoint if is_plain else None
        self.takes_request = "request" in taken


class Routes:
    """An ASGI application over a table of routes.

    Parameters
    ----------
    routes : sequence of APIRoute
        Where two have the same path and method, the first counts.
    fastapi : ASGI application
        Called for functions that need more than their path, and for `description`.
    description : str, optional
        The path of the OpenAPI document.
    """

    def __init__(self, routes: Sequence[APIRoute], fastapi: ASGIApp, description: str | None) -> None:
        self._fastapi = fastapi
        self._description = description
        self._fixed: dict[str, Methods] = {}
        self._patterns: dict[int, list[tuple[list[str], Methods]]] = {}
        for route in routes:
            self._add(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._fastapi(scope, receive, send)
            return
        request = Request(scope, receive)
        answer: ASGIApp
        try:
            answer = await self._respond(request)
        except Exception as error:  # noqa: BLE001 - every error gets the same form
            answer = answer_to(error, request)
        await answer(scope, receive, send)

    async def _respond(self, request: Request) -> ASGIApp:
        """Return the response."""
        scope = request.scope
        path, methods, words = self._look_up(scope["path"])
        if methods is None:
            if path != self._description:
                raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such path")
            return partial(self._by_fastapi, path)
        method = scope["method"]
        entry = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        if entry is None:
            return _not_allowed(methods)
        scope["route"] = entry.route
        if entry.handler is None:
            return partial(self._by_fastapi, path)
        given = (request,) if entry.takes_request else ()
        return await entry.handler(*given, **dict(zip(entry.names, words, strict=True)))

    def path_of(self, path: str) -> str | None:
        """Return the route's path for a request to `path`, whatever its method."""
        path, methods, _ = self._look_up(path)
        if methods is None:
            return path if path == self._description else None
        return next(iter(methods.values())).route.path

    def _look_up(self, path: str) -> tuple[str, Methods | None, list[str]]:
        """Return the normalised path, its entries by method, and the path parameters."""
        if path[-1:] == "/" and path != "/":
            path = path.rstrip("/") or "/"
        methods = self._fixed.get(path)
        if methods is not None:
            return path, methods, []
        return path, *self._match(path)

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

    async def _by_fastapi(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        is_started = False

        async def watched(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._fastapi({**scope, "path": path, "method": method}, receive, watched)
        except Exception as error:
            if is_started:
                raise
            await answer_to(error, Request(scope, receive))(scope, receive, send)

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
        super().__init__(docs_url=None, redoc_url=None, redirect_slashes=False, **options)
        self.api_routes: list[APIRoute] = []
        self._table: Routes | None = None

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
        added, self.user_middleware = self.user_middleware, []
        self._table = Routes(self.api_routes, super().build_middleware_stack(), self.openapi_url)
        app: ASGIApp = self._table
        self.user_middleware = added
        for cls, args, kwargs in reversed(added):
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
