"""Words of a request: what parses is what was meant, and everything else is refused in words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from api.ingestion.picture import Channels
from api.web.answers import Dialect
from api.web.errors import BadRequest
from api.web.reading.parameters import Parameters, query_values
from api.web.reading.requests import image_id_from, json_image_id, picture_of, picture_or_id_of
from api.web.reading.window import MAX_LIMIT, window_of
from iqdb_core import codec
from iqdb_core.errors import InvalidImageId, IqdbError
from iqdb_core.model import MAX_IMAGE_ID
from tests.fixtures import pictures

HASH = pictures.golden()[0][1]


def said(**values: Any) -> Parameters:
    return Parameters(Dialect.DANBOORU, values)


@given(st.integers(0, MAX_IMAGE_ID))
def test_every_id_round_trips(number: int) -> None:
    assert image_id_from(str(number)) == number
    assert json_image_id(number) == number


@given(st.one_of(st.text(), st.integers().map(str), st.floats().map(str)))
def test_an_id_is_its_digits_or_refused(text: str) -> None:
    try:
        number = image_id_from(text)
    except InvalidImageId:
        return
    assert 0 <= number <= MAX_IMAGE_ID
    assert text.lstrip("0") == str(number).lstrip("0")


@pytest.mark.parametrize("value", [True, False, None, "1", 1.0, -1, MAX_IMAGE_ID + 1, [1], {}])
def test_json_ids_are_whole_numbers(value: object) -> None:
    with pytest.raises(InvalidImageId):
        json_image_id(value)


@given(
    st.one_of(st.text(), st.integers(-5, 1100).map(str), st.integers(-5, 1100), st.floats(), st.booleans())
)
def test_a_limit_is_within_its_range_or_refused(value: object) -> None:
    try:
        limit = said(limit=value).integer("limit", 1, MAX_LIMIT)
    except BadRequest:
        text = str(value)
        is_digits = isinstance(value, int | str) and text.isascii() and text.isdigit() and len(text) <= 4
        assert not (is_digits and 1 <= int(text) <= MAX_LIMIT)
        return
    assert limit is not None
    assert 1 <= limit <= MAX_LIMIT
    assert int(str(value)) == limit


@given(st.one_of(st.text(), st.floats().map(repr), st.floats(), st.integers(), st.booleans()))
def test_a_number_is_finite_or_refused(value: object) -> None:
    try:
        number = said(min_score=value).number("min_score")
    except IqdbError:
        return
    assert number is not None
    assert math.isfinite(number)
    assert number == float(value)  # type: ignore[arg-type]


def test_absent_words_mean_their_defaults() -> None:
    window = window_of(said(hash=HASH))
    assert (window.limit, window.min_score) == (10, None)
    assert said().integer("limit", 1, 2) is None
    assert said().number("min_score") is None


def test_a_hash_counts_more_than_a_picture_beside_it() -> None:
    signature = codec.from_hash(HASH)
    assert picture_of(said(hash=HASH, channels={"r": 1})) == signature
    assert picture_of(said(hash=HASH, file="x")) == signature
    assert isinstance(picture_of(said(channels={"r": 1})), Channels)


@pytest.mark.parametrize("query", [b"source=%E6%97.jpg", b"post_id=%ff&a=b"])
def test_a_query_string_that_is_no_text_is_refused(query: bytes) -> None:
    """Altered silently, a source would name another file, and two files would become one."""
    with pytest.raises(BadRequest, match="not UTF-8"):
        query_values(Request({"type": "http", "query_string": query, "headers": []}))


def test_a_query_string_may_have_any_letters() -> None:
    request = Request({"type": "http", "query_string": b"source=%E5%86%99+a;b&c=", "headers": []})
    assert query_values(request) == {"source": "写 a;b"}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"hash": 3},
        {"file": "x"},
        {"channels": "rgb"},
        {"post_id": "1", "hash": HASH},
        {"post_id": 1, "channels": {}},
    ],
)
def test_requests_without_a_valid_picture_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        picture_or_id_of(said(**values))
