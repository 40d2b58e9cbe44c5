"""Why could something not be read? In words for people. Loads no library that a server does without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from iqdb_core.errors import ConfigError, ImageError, ImageTooLarge


def reason_of(error: BaseException, max_pixels: int | None = None) -> str:
    """Return why something could not be read, in words and without the name of the file.

    With the limit of pixels that an option says, names the option where another limit would help.
    """
    words = getattr(error, "strerror", None) or str(error) or "it is damaged"
    # Some formats have a lower limit of their own, which no option lifts.
    is_ours = isinstance(error, ImageTooLarge) and error.max_pixels == max_pixels
    return f"{words} (--max-pixels)" if is_ours else words


@contextmanager
def naming_picture(picture: str, max_pixels: int) -> Iterator[None]:
    """Raise ConfigError, which names the picture, for one that cannot be read in this block."""
    try:
        yield
    except ImageError as error:
        raise ConfigError(f"{picture} cannot be read: {reason_of(error, max_pixels)}") from error
