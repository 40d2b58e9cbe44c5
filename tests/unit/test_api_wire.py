"""Records between query node and front end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.node.protocol import pack_matches, unpack_matches
from iqdb_core.errors import InvalidHash
from iqdb_core.model import MAX_IMAGE_ID, Match, Signature

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
