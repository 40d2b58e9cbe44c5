"""Why nothing was fetched: what the routes tell of, also where nothing ever is, and no client is loaded."""

from __future__ import annotations

from iqdb_core.errors import IqdbError


class FetchRefused(IqdbError):
    """An address that is not fetched, whatever is there."""


class FetchFailed(IqdbError):
    """The other server did not give a picture."""


class FetchBusy(IqdbError):
    """Too many addresses are being fetched."""

    retryable = True
