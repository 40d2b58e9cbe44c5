"""Parts of every front end, in either mode: limits, rights, the page, fetching, the hasher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from api.access.keyring import Keyring, create_token, parse_tokens
from api.access.policy import AccessPolicy, anonymous_right
from api.access.rate import RateLimit
from api.fetch.rules import parse_hosts, parse_referer_rules
from api.ingestion.hashing import Hasher
from api.metrics.instruments import Instruments
from api.pictures.folder import PictureFolder
from api.pictures.thumbnails import Thumbnails
from api.roles.database_file import file_of
from api.roles.messages import say
from api.roles.parts import create_instruments
from api.web.app import create_front_end
from api.web.guards.limits import LimitOptions
from api.web.loading import OnFailure, Startup
from api.web.routes import Application
from api.web.services import Services
from api.web.subjects.page import PageOptions
from iqdb_core.settings import Settings
from iqdb_core.signature import DecodeLimits

if TYPE_CHECKING:
    from api.fetch.fetcher import Fetcher

Load = Callable[[Startup[Services], Instruments], Services]


def compose_front_end(
    settings: Settings,
    load: Load,
    *,
    host: str,
    on_ready: Callable[[str], None],
    on_failure: OnFailure,
) -> Application:
    """Return a front end that listens on `host`, over the services that `load` builds.

    Raises
    ------
    WrongUsage
        Settings that cannot work.
    """
    instruments = create_instruments()
    return create_front_end(
        lambda startup: load(startup, instruments),
        instruments=instruments,
        fetcher=_fetcher_of(settings, instruments),
        limits=_limits_of(settings),
        access=_access_of(settings, host),
        page_options=_page_of(settings),
        on_ready=on_ready,
        on_failure=on_failure,
    )


def _limits_of(settings: Settings) -> LimitOptions:
    """Return the limits of requests."""
    return LimitOptions(
        max_bytes=settings.max_upload_bytes,
        max_batch_bytes=settings.max_batch_bytes,
        max_pending=settings.max_pending,
        max_pending_bytes=settings.max_pending_bytes,
        idle_s=settings.body_timeout_s,
        total_s=settings.body_total_s,
        bytes_per_s=settings.body_bytes_per_s,
    )


def _access_of(settings: Settings, host: str) -> AccessPolicy:
    """Return who may do what on a server that listens on `host`.

    Raises
    ------
    WrongUsage
        A token is invalid, the token file cannot be read, or settings contradict each other.
    """
    tokens = parse_tokens(settings.tokens)
    if settings.token:
        tokens = (create_token("write", settings.token, "IQDB_TOKEN"), *tokens)
    file = Path(settings.token_file) if settings.token_file else None
    keyring = Keyring(tokens, file=file)
    anonymous, forwarded = anonymous_right(host, keyring, is_open=settings.open, is_private=settings.private)
    if keyring.is_configured and not keyring:
        say("the token file has no tokens yet; tokens that are added to it count within seconds")
    return AccessPolicy(keyring, anonymous, forwarded, RateLimit(settings.rate_limit))


def _page_of(settings: Settings) -> PageOptions:
    """Return the options of the web page; raises WrongUsage for invalid addresses or folders."""
    pictures = None
    if settings.pictures:
        pictures = Thumbnails(
            PictureFolder(Path(settings.pictures), file_of(settings.database_url)),
            limits=DecodeLimits(max_pixels=settings.max_pixels),
            max_bytes=settings.max_upload_bytes,
        )
    return PageOptions(
        link=settings.link,
        thumbnail=settings.thumbnail,
        pictures=pictures,
        can_fetch=settings.fetch,
        max_bytes=settings.max_upload_bytes,
    )


def _fetcher_of(settings: Settings, instruments: Instruments) -> Fetcher | None:
    """Return the fetcher of pictures by address; None unless the operator has enabled it.

    Raises
    ------
    WrongUsage
        Hosts or rules are invalid; checked even if fetching is off.
    """
    hosts, rules = parse_hosts(settings.fetch_hosts), parse_referer_rules(settings.fetch_referer_rules)
    if not settings.fetch:
        return None
    # The HTTP client takes 10 MB: load it only if it is used.
    from api.fetch.fetcher import Fetcher, FetchOptions  # noqa: PLC0415

    options = FetchOptions(
        max_bytes=settings.max_upload_bytes,
        timeout_s=settings.fetch_timeout_s,
        hosts=hosts,
        private=settings.fetch_private,
        referer_rules=rules,
    )
    return Fetcher(options, instruments.version)


def create_hasher(settings: Settings, instruments: Instruments) -> Hasher:
    """Return the hasher of this process."""
    return Hasher(
        decoders=settings.decoders,
        limits=DecodeLimits(settings.max_pixels, refuse_damaged=settings.refuse_damaged),
        max_upload_bytes=settings.max_upload_bytes,
        observe=instruments.observe,
    )
