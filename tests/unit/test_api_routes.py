"""Paths to functions: one reading of a path, and no other."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import APIRouter
from starlette.responses import Response

from api.web.routes import Application


@pytest.fixture
def app() -> Application:
    router = APIRouter()

    @router.get("/whole")
    async def whole() -> Response:
        return Response("whole")

    @router.get("/images/{image_id}")
    async def image(image_id: str) -> Response:
        return Response(f"image {image_id}")

    app = Application()
    app.include_router(router)
    return app


def get(app: Application, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_path_leads_to_its_function(app: Application) -> None:
    for path in ("/whole", "/whole/", "/whole//"):
        assert get(app, path).text == "whole"
    assert get(app, "/images/3").text == "image 3"
    assert get(app, "/openapi.json").status_code == 200


def test_a_path_has_a_route_whatever_becomes_of_the_request(app: Application) -> None:
    assert app.path_of("/whole") is None, "nothing was asked yet"
    get(app, "/whole")
    for path, route in (
        ("/whole/", "/whole"),
        ("/images/3", "/images/{image_id}"),
        ("/openapi.json", "/openapi.json"),
        ("/images/", None),
        ("/docs", None),
    ):
        assert app.path_of(path) == route


@pytest.mark.parametrize(
    "path", ["/whole%0A", "/whole%0A/", "/openapi.json%0A", "/docs", "/images/3/%0A", "//whole"]
)
def test_paths_outside_the_table_are_not_found(app: Application, path: str) -> None:
    """The framework takes a path with a line's end behind it for the path without."""
    assert get(app, path).status_code == 404


def test_a_function_that_takes_what_no_path_gives_is_refused_at_the_start() -> None:
    router = APIRouter()

    @router.get("/query")
    async def query(limit: int) -> Response:
        return Response(str(limit))

    app = Application()
    app.include_router(router)
    with pytest.raises(TypeError, match="/query takes more"):
        get(app, "/query")
