"""Where a command works: on a database file of this machine, or on a server. One interface over both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from iqdb_client import Image, Match, Picture, Question

if TYPE_CHECKING:
    from api.search.duplicates import DuplicatesPage

IS_DAMAGED: Final = "is damaged; this is about what is there of it"


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture to add under an id.

    Parameters
    ----------
    image_id : int
    picture : Path, bytes or str
        A file, its bytes, or a hash.
    source : str or None
    if_absent : bool
        Replace no image: the id was given out here, and somebody else may have got it meanwhile.
    """

    image_id: int
    picture: Picture
    source: str | None
    if_absent: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one entry.

    Parameters
    ----------
    reason : str or None
        Why it was refused.
    is_damaged : bool
        It is in, though a part of the picture is missing.
    is_taken : bool
        It is not in: an image has the id, and was not to be replaced.
    is_late : bool
        It was refused because the server can take nothing for now.
    """

    reason: str | None = None
    is_damaged: bool = False
    is_taken: bool = False
    is_late: bool = False


class Target(Protocol):
    """What the commands do to a database or a server. Every method raises IqdbError or ClientError."""

    @property
    def name(self) -> str:
        """What is worked on, for messages."""

    def add(self, entries: Sequence[Entry]) -> list[Added]:
        """Add pictures, and tell of each what became of it. Called from several threads at once."""

    def missing(self, image_ids: Sequence[int]) -> set[int]:
        """Return which of these ids are not there."""

    def there(self, image_ids: Sequence[int]) -> dict[int, str | None]:
        """Return those of these ids that are there, with the sources of their images."""

    def listed(self, after: int = -1) -> Iterator[tuple[int, str | None]]:
        """Yield the ids and sources of all images above an id, ascending."""

    def is_same(self, image_id: int, picture: Picture) -> bool:
        """Tell whether an image has the hash of a picture. Called from several threads at once.

        False as well if the image is not there any more, or the picture cannot be read.
        """

    def search(self, picture: Picture | int, question: Question) -> list[Match]:
        """Return what is like a picture, or like a known image; tells the user if the picture is damaged."""

    def get(self, image_id: int) -> Image:
        """Return one image."""

    def remove(self, image_ids: Sequence[int]) -> None:
        """Delete images; unknown ids are no error."""

    def status(self) -> dict[str, Any]:
        """Return how many images there are, and what else is known: `store_id` names the store."""

    def duplicates(self, after: int, min_likelihood: float) -> DuplicatesPage:
        """Return the next groups of images that show the same picture."""

    def images(self) -> Iterator[Image]:
        """Yield every image, by ascending id."""

    def write_iqdb_file(self, path: Path, progress: Callable[[int, int], None]) -> int:
        """Write all images into a new file for IQDB, there when it is whole; returns how many."""

    def close(self) -> None:
        """Finish and free everything."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(self, *_: object) -> None:
        """Close it."""
