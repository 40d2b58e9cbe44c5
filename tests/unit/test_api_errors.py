"""Every error has its status, and the table is complete."""

from __future__ import annotations

import pytest

from api.fetch.failures import FetchFailed
from api.web import errors as web
from iqdb_core import errors


def leaves(base: type[errors.IqdbError]) -> list[type[errors.IqdbError]]:
    below = base.__subclasses__()
    return [base] if not below else [leaf for cls in below for leaf in leaves(cls)]


def status_of(cls: type[errors.IqdbError]) -> int | None:
    """Return the status of a class: its own, or that of the kind of which it is one."""
    return next((web.STATUSES[kind] for kind in cls.__mro__ if kind in web.STATUSES), None)


@pytest.mark.parametrize("cls", leaves(errors.IqdbError), ids=lambda cls: cls.__name__)
def test_every_leaf_has_a_status(cls: type[errors.IqdbError]) -> None:
    assert status_of(cls) is not None or cls is errors.JobFailed


@pytest.mark.parametrize("cls", leaves(errors.IqdbError), ids=lambda cls: cls.__name__)
def test_retryable_errors_have_a_retryable_status(cls: type[errors.IqdbError]) -> None:
    if cls is errors.JobFailed:
        return
    assert cls.retryable == (status_of(cls) in {429, 503})


def test_a_failed_job_answers_like_the_error_it_failed_with() -> None:
    assert web.status_of(errors.JobFailed("too large", "ImageTooLarge")) == 413
    assert web.status_of(errors.JobFailed("broken", "CorruptImage")) == 422
    assert web.status_of(errors.JobFailed("killed its worker", "")) == 422
    assert web.status_of(errors.JobFailed("the queue has lost its bytes", "JobLost")) == 503


def test_an_unknown_error_of_ours_is_the_servers_fault() -> None:
    assert web.status_of(errors.IqdbError("new")) == 500


def test_answers_carry_message_and_retry_after() -> None:
    answer = web.error_response(errors.StoreUnavailable("away"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert b"database" in bytes(answer.body)
    assert web.error_response(web.Unauthorized("no")).headers["www-authenticate"] == "Bearer"
    assert "retry-after" not in web.error_response(errors.UnknownImage(3)).headers


OWN_WORDS = {errors.OutOfMemory, FetchFailed, web.NoSpace}
"""Their reasons are sentences of ours about what the client sent."""


@pytest.mark.parametrize(
    "cls",
    [cls for cls in leaves(errors.IqdbError) if cls not in OWN_WORDS and web.STATUSES.get(cls, 0) >= 500],
    ids=lambda cls: cls.__name__,
)
def test_internal_errors_reveal_no_paths_or_users(cls: type[errors.IqdbError]) -> None:
    reason = (
        "Postgres database postgresql+psycopg://alice:***@10.255.0.7:5432/prod: connection to server at"
        ' "db.internal" failed for user "alice"; SQLite file /srv/secret/s.sqlite; 127.0.0.1:6379'
    )
    error = cls(reason, "x") if cls is errors.CheckpointInvalid else cls(reason)
    answer = bytes(web.error_response(error).body).decode()
    for secret in ("alice", "10.255", "prod:", "db.internal", "/srv", "secret", "127.0.0.1"):
        assert secret not in answer
