"""Makes untrusted text, such as file names, safe to print on a terminal, which obeys control characters.

Used wherever output is for people.
"""

from __future__ import annotations

import re
from typing import Final

_OBEYED: Final = "\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters, those that change the direction of text, and bytes of names that are not UTF-8."""
_UNSHOWN: Final = re.compile(f"[\x00-\x1f{_OBEYED}]")
_UNESCAPED: Final = re.compile(f"[{_OBEYED}]")


def printable(text: str) -> str:
    """Return a text as one line, with control characters replaced."""
    return _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, with control characters replaced, and libpq's tabs by blanks."""
    return "\n".join(printable(line.replace("\t", " ")) for line in text.split("\n"))


def escaped(json_text: str) -> str:
    """Return JSON with control characters and invalid UTF-8 escaped."""
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
