"""Every error has its status, and the table is complete."""

from __future__ import annotations

import pytest

from api.web import errors as web
from iqdb_core import errors


def leaves(base: type[errors.IqdbError]) -> list[type[errors.IqdbError]]:
    below = base.__subclasses__()
    return [base] if not below else [leaf for cls in below for leaf in leaves(cls)]


@pytest.mark.parametrize("cls", leaves(errors.IqdbError), ids=lambda cls: cls.__name__)
def test_every_leaf_has_a_status_of_its_own(cls: type[errors.IqdbError]) -> None:
    assert cls in web.STATUSES or cls is errors.JobFailed


@pytest.mark.parametrize("cls", leaves(errors.IqdbError), ids=lambda cls: cls.__name__)
def test_what_can_heal_is_answered_with_a_status_that_says_so(cls: type[errors.IqdbError]) -> None:
    if cls is errors.JobFailed:
        return
    assert cls.retryable == (web.STATUSES[cls] in {429, 503})


def test_a_failed_job_answers_like_the_error_it_failed_with() -> None:
    assert web.status_of(errors.JobFailed("too large", "ImageTooLarge")) == 413
    assert web.status_of(errors.JobFailed("broken", "CorruptImage")) == 422
    assert web.status_of(errors.JobFailed("killed its worker", "")) == 422


def test_an_unknown_error_of_ours_is_the_servers_fault() -> None:
    assert web.status_of(errors.IqdbError("new")) == 500


def test_answers_carry_message_and_retry_after() -> None:
    answer = web.error_response(errors.StoreUnavailable("away"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert bytes(answer.body) == b'{"message":"away"}'
    assert web.error_response(web.Unauthorized("no")).headers["www-authenticate"] == "Bearer"
    assert "retry-after" not in web.error_response(errors.UnknownImage(3)).headers
