"""Removes paths, names and addresses from the reasons that `/status` shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_QUOTED: Final = re.compile(r"""(['"])(?:(?!\1).)*\1""", re.DOTALL)
_PATH: Final = re.compile(r"(?<![\w.])(?:/[^\s/:;,]+)+/?")
_ADDRESS: Final = re.compile(
    r"\b\w+://\S+|\b\d{1,3}(?:\.\d{1,3}){3}\b"
    # Not from the middle of a number: each digit of a long hash would begin a match of its own.
    r"|(?<![0-9a-fA-F])\[?[0-9a-fA-F]*:(?::[0-9a-fA-F]*)+\]?"
    r"|(?<![0-9a-fA-F:])\[?(?:[0-9a-fA-F]{1,4}:){3}[0-9a-fA-F:]*\]?"  # three colons: a time of day has two
)


def public_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop values that are None, and remove paths and addresses from texts; the log has them in full."""
    return {
        name: public_text(value) if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def public_text(text: str) -> str:
    """Return the first line of a reason, without quoted names, paths and addresses."""
    line = text.splitlines()[0] if text else ""
    return _PATH.sub("...", _ADDRESS.sub("...", _QUOTED.sub("...", line)))
