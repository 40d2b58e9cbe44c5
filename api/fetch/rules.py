"""Parses an operator's rules for fetching by address: which hosts, and which Referer they get.

Loads no HTTP client: rules are checked even where fetching is off. Called by the composition roots.
"""

from __future__ import annotations

from typing import Final

from iqdb_core.errors import WrongUsage

_NOT_IN_A_HOST: Final = frozenset("/@=")


def parse_hosts(text: str) -> tuple[str, ...]:
    """Read patterns of hosts, separated by commas or spaces.

    Raises
    ------
    WrongUsage
        A pattern cannot match any host.
    """
    return tuple(_pattern(one) for one in text.replace(",", " ").split())


def parse_referer_rules(text: str) -> tuple[tuple[str, str], ...]:
    """Read "PATTERN=REFERER" rules, separated by commas or spaces.

    Raises
    ------
    WrongUsage
        A rule has another form.
    """
    rules = []
    for one in text.replace(",", " ").split():
        pattern, separator, referer = one.partition("=")
        if not separator or not pattern or not referer.isascii() or not referer.isprintable():
            raise WrongUsage(f"a referer rule is HOST=REFERER, not {one!r}")
        rules.append((_pattern(pattern), referer))
    return tuple(rules)


def _pattern(text: str) -> str:
    """Return a pattern of hosts in lower case; international names have to be given in DNS form (xn--...)."""
    if not text.isascii() or not text.isprintable() or _NOT_IN_A_HOST & set(text):
        raise WrongUsage(f"a host to fetch from is a name like example.org or *.example.org, not {text!r}")
    return text.lower()
