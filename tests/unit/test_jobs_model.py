"""What may be submitted, and what api and worker must agree on."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core import codec
from iqdb_core.errors import InvalidImageId, InvalidSource, WrongUsage
from iqdb_core.jobs import JobKind, JobState, Keys, Submission
from iqdb_core.jobs.messages import CLAIM_JOBS, transport_options
from iqdb_core.jobs.scripts import ACCEPT, CLAIM, Script
from iqdb_core.model import Signature


@given(st.integers(0, 2**63 - 1), st.binary())
def test_a_submission_keeps_what_it_was_given(image_id: int, data: bytes) -> None:
    submission = Submission.of_image(image_id, data)
    assert (submission.image_id, submission.kind, submission.payload) == (image_id, JobKind.IMAGE, data)


@pytest.mark.parametrize("image_id", [-1, 2**63, -(2**70)])
def test_an_id_that_no_database_takes_is_refused_before_it_is_accepted(image_id: int) -> None:
    with pytest.raises(InvalidImageId):
        Submission.of_delete(image_id)


def test_a_signature_travels_as_its_264_bytes() -> None:
    signature = Signature((0.1, 0.2, 0.3), struct.pack("<120h", *range(1, 121)))
    submission = Submission.of_signature(1, signature)
    assert len(submission.payload) == 264
    assert codec.from_bytes(submission.payload) == signature


@pytest.mark.parametrize("source", ["x" * 2001, "a\0b", "half \udcff"])
def test_a_source_that_no_database_takes_is_refused_before_it_is_accepted(source: str) -> None:
    with pytest.raises(InvalidSource):
        Submission.of_image(1, b"x", source=source)


def test_only_two_states_are_final() -> None:
    assert [state.value for state in JobState if state.is_final] == ["done", "failed"]


def test_every_name_is_below_the_prefix() -> None:
    keys = Keys("other:")
    options = transport_options(keys)
    names = (keys.queue, keys.changes_channel, keys.finished_channel, options["global_keyprefix"])
    assert all(name.startswith("other:") for name in names)


@pytest.mark.parametrize("prefix", ["", "two words:", "iqdb\n", "bücher:"])
def test_a_prefix_is_a_plain_word(prefix: str) -> None:
    with pytest.raises(WrongUsage, match="prefix"):
        Keys(prefix)


def test_both_sides_agree_on_the_size_of_a_claim() -> None:
    assert f"local CLAIM_JOBS = {CLAIM_JOBS}\n" in CLAIM.text


@pytest.mark.parametrize("timeout_s", [1, 4, 8, 60, 3600])
def test_unacknowledged_messages_are_looked_for_more_often_than_they_expire(timeout_s: int) -> None:
    options = transport_options(visibility_timeout_s=timeout_s)
    assert 1 <= options["unacked_restore_interval"] * options["unacked_restore_throttle"] <= max(1, timeout_s)


def test_scripts_are_told_apart_by_their_text() -> None:
    assert Script(ACCEPT.text) == ACCEPT
    assert Script(ACCEPT.text + " ").sha != ACCEPT.sha
