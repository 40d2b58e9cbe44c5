"""Errors of fetching. Apart from the fetcher, so that importing them loads no HTTP client."""

from __future__ import annotations

from iqdb_core.errors import IqdbError


class FetchRefused(IqdbError):
    """The rules forbid fetching this address."""


class FetchFailed(IqdbError):
    """The other server gave no picture."""


class FetchBusy(IqdbError):
    """Too many addresses are being fetched."""

    retryable = True
