"""Words of a request: what parses is what was meant, and everything else is refused in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.web.errors import BadRequest
from api.web.requests import MAX_LIMIT, image_id_from, json_image_id, limit_from, min_score_from
from iqdb_core.errors import InvalidImageId, IqdbError
from iqdb_core.model import MAX_IMAGE_ID


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


@given(st.one_of(st.text(), st.integers(-5, 1100).map(str)))
def test_a_limit_is_within_its_range_or_refused(text: str) -> None:
    try:
        limit = limit_from(text)
    except BadRequest:
        assert not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_LIMIT and len(text) <= 4)
        return
    assert 1 <= limit <= MAX_LIMIT
    assert int(text) == limit


@given(st.one_of(st.text(), st.floats().map(repr)))
def test_a_least_score_is_finite_or_refused(text: str) -> None:
    try:
        value = min_score_from(text)
    except IqdbError:
        return
    assert value is not None
    assert math.isfinite(value)
    assert value == float(text)


def test_absent_words_mean_their_defaults() -> None:
    assert limit_from(None) == 10
    assert min_score_from(None) is None
