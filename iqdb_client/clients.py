"""The two clients: the same calls, run blocking or awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Self, TypeVar

import httpx

from iqdb_client import calls
from iqdb_client.batch import Batch
from iqdb_client.calls import Call
from iqdb_client.environment import new_http
from iqdb_client.errors import ClientError, Late, Refused, Unavailable, cause_of
from iqdb_client.retrying import BUSY, OnWait, Patience, Retries
from iqdb_client.values import (
    Change,
    ChangePage,
    Image,
    Job,
    JobPage,
    Listed,
    Matches,
    Outcome,
    Picture,
    Question,
    Status,
)

T = TypeVar("T")
_NEVER: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError)
"""Errors that no retry can help: an address without http://, an impossible host name, or a redirect to one,
which httpx reads though it does not follow it.
"""
PAGE: Final = 1000
LISTED: Final = 10_000
"""Images of a page of a list, as many as the server gives at once."""


def _retries(patience_s: float, contact_s: float | None, on_wait: OnWait | None) -> Retries:
    first_s = patience_s if contact_s is None else contact_s
    return Retries(Patience(patience_s), Patience(first_s), on_wait)


def _result(call: Call[T], answer: httpx.Response) -> T:
    if answer.status_code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
        raise calls.refusal(answer.status_code, answer.content, answer.headers)
    try:
        value = call.read(answer.json())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # The page of a proxy, or of another program at this address.
        raise Refused(answer.status_code, "what answers there is no iqdb server") from error
    if call.complete is not None:
        call.complete(value, answer.headers)
    return value


def _busy(answer: httpx.Response) -> tuple[str, str | None]:
    """Return why the server cannot answer now, and when it says that it can."""
    cause = calls.refusal(answer.status_code, answer.content, answer.headers)
    return str(cause), answer.headers.get("retry-after")


def _gave_up(call: Call[Any], cause: str, kind: type[ClientError] = Unavailable) -> ClientError:
    return kind(f"{call.method} {call.path}: {cause}")


class Client:
    """A blocking client; use it as a context manager or call `close`. Safe to use from several threads.

    Parameters
    ----------
    url : str
        Where the server is, with its path if it lies below one.
    token : str or None
        Sent as "Authorization: Bearer TOKEN"; an empty one is none.
    timeout_s : float
        How long one request may go without progress. It should be longer than the server waits for an add
        (its `--add-timeout-s`, 60): otherwise a late write seems lost, and is sent again.
    patience_s : float
        How long to go on asking a server that is busy, starting or away; 0 asks once.
    contact_s : float or None
        The same for a server that has answered nothing at all so far: its address may be wrong.
    on_wait : callable of (cause, seconds) or None
        Called before each pause, from the thread that waits.

    Raises
    ------
    ClientError
        `url` or `token` is one that no server can have, or the environment names proxies or certificates that
        cannot be used. By every method: what is to be sent cannot be sent, or is no picture.
    Refused
        By every method: the server said no, and why. NotFound and Unauthorized are kinds of it.
    Unavailable
        By every method: the server was away or busy for longer than `patience_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 90.0,
        patience_s: float = 60.0,
        contact_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> None:
        self._retries = _retries(patience_s, contact_s, on_wait)
        self._http = new_http(httpx.Client, url, token, timeout_s, contact_s or timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def add(
        self, post_id: int, picture: Picture, *, source: str | None = None, if_absent: bool = False
    ) -> Image:
        """Add or replace an image; it can be found when this returns.

        With `if_absent` none is replaced: an id that has an image raises Refused with status 409.
        """
        return self._run(calls.add(post_id, picture, source=source, if_absent=if_absent))

    def add_later(self, post_id: int, picture: Picture, *, source: str | None = None) -> Outcome:
        """Add or replace an image, and wait only until it is safely accepted."""
        return self._run(calls.add_later(post_id, picture, source=source))

    def add_many(
        self,
        pictures: Mapping[int, Picture],
        *,
        sources: Mapping[int, str] | None = None,
        wait: bool = True,
        if_absent: bool = False,
    ) -> list[Outcome]:
        """Add or replace up to 1,000 images; each has its own outcome, in order.

        What a busy server cannot take is sent again, and has status 429 or 503 if the patience runs out. With
        `if_absent` none is replaced: the status of an id that has an image is 409.
        """
        batch = Batch(pictures, sources, self._retries, wait=wait, if_absent=if_absent)
        while batch.left:
            time.sleep(batch.pause_s)
            with batch.trying():
                batch.take(self._run(batch.call()), time.monotonic())
        return batch.outcomes()

    def get(self, post_id: int) -> Image:
        """Return an image; raises NotFound."""
        return self._run(calls.get(post_id))

    def delete(self, *post_ids: int) -> None:
        """Delete images; unknown ones are no error."""
        late = [job_id for call in calls.delete(post_ids) for job_id in self._run(call)]
        if late:
            raise Late(late)

    def query(self, picture: Picture | int, question: Question | None = None, **options: Any) -> Matches:
        """Return what is most like a picture, or like the image with an id; `options` are Question's."""
        return self._run(calls.query(picture, question or Question(**options)))

    def status(self) -> Status:
        """Return the number of images and how the server is."""
        return self._run(calls.status())

    def job(self, job_id: str) -> Job:
        """Return a job; raises NotFound."""
        return self._run(calls.job(job_id))

    def jobs(self, state: str | None = None, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Return a page of jobs."""
        return self._run(calls.jobs(state, cursor, limit))

    def images(self, after: int | None = None) -> Iterator[int]:
        """Yield the ids of all images, ascending, page by page."""
        for image in self.listed(after):
            yield image.post_id

    def listed(self, after: int | None = None, *, page_images: int = LISTED) -> Iterator[Listed]:
        """Yield the ids and sources of all images above an id, ascending, page by page."""
        while page := self._run(calls.images_after(after, page_images)):
            yield from page
            after = page[-1].post_id

    def missing(self, post_ids: Sequence[int]) -> list[int]:
        """Return which of these ids the server does not know."""
        return [
            found
            for start in range(0, len(post_ids), PAGE)
            for found in self._run(calls.missing(post_ids[start : start + PAGE]))
        ]

    def changes(self, since: int | str = 0) -> Iterator[Change]:
        """Yield the changes after a cursor in commit order, to the end of the feed.

        To go on from there another time, use `changes_page`, whose `next` is a cursor.
        """
        while (page := self.changes_page(since)).changes:
            yield from page.changes
            since = page.next

    def changes_page(self, since: int | str = 0, limit: int = PAGE, wait_s: int = 0) -> ChangePage:
        """Return a page of changes, for mirrors: the latest of each image, in commit order.

        Parameters
        ----------
        since : int or str
            The `next` of the page before, or 0. With a bare seq, which says nothing of the history that it
            belongs to, a restored database goes unnoticed.
        limit : int
            Most changes, 1..1000.
        wait_s : int
            How long the server waits for a change while there is none, 0..20 seconds.

        Raises
        ------
        Refused
            With status 409 the database was restored to another state than the mirror's: empty the mirror
            and begin again from 0.
        """
        return self._run(calls.changes(since, limit, wait_s))

    def duplicates(self, after: int = -1, min_likelihood: float | None = None) -> Mapping[str, Any]:
        """Return a page of groups of images that show the same picture; `next` of it is the next `after`."""
        return self._run(calls.duplicates(after, min_likelihood))

    def export(self, form: str = "ndjson") -> Iterator[bytes]:
        """Yield an export of all images as it comes: lines of JSON, or with "sqlite" a file for IQDB.

        Raises Unavailable if it ends early: what came before is only a part then.
        """
        call = calls.export(form)
        answer = self._answer(call, is_stream=True)
        try:
            if answer.status_code != HTTPStatus.OK:
                raise calls.refusal(answer.status_code, answer.read(), answer.headers)
            yield from answer.iter_bytes()
        except (httpx.RequestError, httpx.StreamError) as error:
            raise _gave_up(call, cause_of(error)) from error
        finally:
            answer.close()

    def _run(self, call: Call[T]) -> T:
        return _result(call, self._answer(call))

    def _answer(self, call: Call[Any], *, is_stream: bool = False) -> httpx.Response:
        """Return the first answer that is not "later"."""
        start, tries = time.monotonic(), 0
        while True:
            tries += 1
            retry_after: str | None = None
            try:
                request = self._http.build_request(call.method, call.path, **call.content(self._http.timeout))
                answer = self._http.send(request, stream=is_stream)
                self._retries.is_reached = True
                if answer.status_code not in BUSY:
                    return answer
                answer.read()
            except _NEVER as error:
                raise _gave_up(call, str(error), ClientError) from error
            except httpx.RequestError as error:
                cause = cause_of(error)
            else:
                cause, retry_after = _busy(answer)
            pause_s = self._retries.pause_s(tries, time.monotonic() - start, cause, retry_after)
            if pause_s is None:
                raise _gave_up(call, cause)
            time.sleep(pause_s)


class AsyncClient:
    """The asynchronous client; its parameters, methods and errors are those of `Client`."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 90.0,
        patience_s: float = 60.0,
        contact_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> None:
        self._retries = _retries(patience_s, contact_s, on_wait)
        self._http = new_http(httpx.AsyncClient, url, token, timeout_s, contact_s or timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def add(
        self, post_id: int, picture: Picture, *, source: str | None = None, if_absent: bool = False
    ) -> Image:
        """See `Client.add`."""
        return await self._run(calls.add(post_id, picture, source=source, if_absent=if_absent))

    async def add_later(self, post_id: int, picture: Picture, *, source: str | None = None) -> Outcome:
        """See `Client.add_later`."""
        return await self._run(calls.add_later(post_id, picture, source=source))

    async def add_many(
        self,
        pictures: Mapping[int, Picture],
        *,
        sources: Mapping[int, str] | None = None,
        wait: bool = True,
        if_absent: bool = False,
    ) -> list[Outcome]:
        """See `Client.add_many`."""
        batch = Batch(pictures, sources, self._retries, wait=wait, if_absent=if_absent)
        while batch.left:
            await asyncio.sleep(batch.pause_s)
            with batch.trying():
                batch.take(await self._run(batch.call()), time.monotonic())
        return batch.outcomes()

    async def get(self, post_id: int) -> Image:
        """See `Client.get`."""
        return await self._run(calls.get(post_id))

    async def delete(self, *post_ids: int) -> None:
        """See `Client.delete`."""
        late = [job_id for call in calls.delete(post_ids) for job_id in await self._run(call)]
        if late:
            raise Late(late)

    async def query(
        self, picture: Picture | int, question: Question | None = None, **options: Any
    ) -> Matches:
        """See `Client.query`."""
        return await self._run(calls.query(picture, question or Question(**options)))

    async def status(self) -> Status:
        """See `Client.status`."""
        return await self._run(calls.status())

    async def job(self, job_id: str) -> Job:
        """See `Client.job`."""
        return await self._run(calls.job(job_id))

    async def jobs(self, state: str | None = None, cursor: str | None = None, limit: int = 100) -> JobPage:
        """See `Client.jobs`."""
        return await self._run(calls.jobs(state, cursor, limit))

    async def images(self, after: int | None = None) -> AsyncIterator[int]:
        """See `Client.images`."""
        async for image in self.listed(after):
            yield image.post_id

    async def listed(self, after: int | None = None, *, page_images: int = LISTED) -> AsyncIterator[Listed]:
        """See `Client.listed`."""
        while page := await self._run(calls.images_after(after, page_images)):
            for image in page:
                yield image
            after = page[-1].post_id

    async def missing(self, post_ids: Sequence[int]) -> list[int]:
        """See `Client.missing`."""
        found: list[int] = []
        for start in range(0, len(post_ids), PAGE):
            page = await self._run(calls.missing(post_ids[start : start + PAGE]))
            found += page
        return found

    async def changes(self, since: int | str = 0) -> AsyncIterator[Change]:
        """See `Client.changes`."""
        while (page := await self.changes_page(since)).changes:
            for change in page.changes:
                yield change
            since = page.next

    async def changes_page(self, since: int | str = 0, limit: int = PAGE, wait_s: int = 0) -> ChangePage:
        """See `Client.changes_page`."""
        return await self._run(calls.changes(since, limit, wait_s))

    async def duplicates(self, after: int = -1, min_likelihood: float | None = None) -> Mapping[str, Any]:
        """See `Client.duplicates`."""
        return await self._run(calls.duplicates(after, min_likelihood))

    async def export(self, form: str = "ndjson") -> AsyncIterator[bytes]:
        """See `Client.export`."""
        call = calls.export(form)
        answer = await self._answer(call, is_stream=True)
        try:
            if answer.status_code != HTTPStatus.OK:
                raise calls.refusal(answer.status_code, await answer.aread(), answer.headers)
            async for piece in answer.aiter_bytes():
                yield piece
        except (httpx.RequestError, httpx.StreamError) as error:
            raise _gave_up(call, cause_of(error)) from error
        finally:
            await answer.aclose()

    async def _run(self, call: Call[T]) -> T:
        return _result(call, await self._answer(call))

    async def _sent(self, request: httpx.Request, *, is_stream: bool) -> httpx.Response:
        try:
            return await self._http.send(request, stream=is_stream)
        except AttributeError as error:  # of uvloop's transport, for a connection that is reset at once
            raise httpx.ConnectError("the connection was reset", request=request) from error

    async def _answer(self, call: Call[Any], *, is_stream: bool = False) -> httpx.Response:
        start, tries = time.monotonic(), 0
        while True:
            tries += 1
            retry_after: str | None = None
            try:
                usual = self._http.timeout
                content = await asyncio.to_thread(call.content, usual) if call.files else call.content(usual)
                request = self._http.build_request(call.method, call.path, **content)
                answer = await self._sent(request, is_stream=is_stream)
                self._retries.is_reached = True
                if answer.status_code not in BUSY:
                    return answer
                await answer.aread()
            except _NEVER as error:
                raise _gave_up(call, str(error), ClientError) from error
            except httpx.RequestError as error:
                cause = cause_of(error)
            else:
                cause, retry_after = _busy(answer)
            pause_s = self._retries.pause_s(tries, time.monotonic() - start, cause, retry_after)
            if pause_s is None:
                raise _gave_up(call, cause)
            await asyncio.sleep(pause_s)
