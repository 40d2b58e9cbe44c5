"""Records between query node and front end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.node.copies import pack_search, size_parameters, unpack_search
from api.node.protocol import pack_matches, unpack_matches
from iqdb_core.errors import InvalidHash
from iqdb_core.model import MAX_IMAGE_ID, Match, QuerySignature, Rectangle, Signature

POSITIONS = np.tile(np.arange(1, 41, dtype="<i2"), 3).tobytes()
finite = st.floats(allow_nan=False, allow_infinity=False)
matches = st.builds(
    Match,
    st.integers(0, MAX_IMAGE_ID),
    finite,
    st.builds(Signature, st.tuples(finite, finite, finite), st.just(POSITIONS)),
)


@given(st.lists(matches, max_size=5))
def test_matches_round_trip(found: list[Match]) -> None:
    assert unpack_matches(pack_matches(found)) == found


@pytest.mark.parametrize("raw", [b"x", bytes(279), bytes(280)])
def test_rubbish_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidHash):
        unpack_matches(raw)


def test_a_search_for_copies_round_trips_with_the_size_of_its_picture() -> None:
    signature, size = Signature((0.5, 0.25, 0.125), POSITIONS), (640, 480)
    signatures = [
        QuerySignature(signature, size=size),
        QuerySignature(signature, Rectangle(1, 2, 300, 400), "mirror", size),
        QuerySignature(signature, Rectangle(-80, 0, 720, 480), size=size),
    ]
    assert [one.is_uncropped for one in signatures] == [False, False, True]
    assert size_parameters(signatures) == {"width": 640, "height": 480}
    assert unpack_search(pack_search(signatures, {7}), size) == (signatures, {7})


def test_nodes_and_front_ends_that_know_no_size_do_without() -> None:
    """The size is in the query string, where an older node overlooks it: the records are as they were."""
    signature = Signature((0.5, 0.25, 0.125), POSITIONS)
    before = [QuerySignature(signature), QuerySignature(signature, Rectangle(1, 2, 300, 400))]
    signatures = [QuerySignature(one.signature, one.part, size=(640, 480)) for one in before]
    assert pack_search(signatures, ()) == pack_search(before, ())
    assert unpack_search(pack_search(signatures, ()), None) == (before, frozenset())
    assert size_parameters(before) == {}
