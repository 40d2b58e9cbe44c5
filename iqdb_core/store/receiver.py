"""Who gets the images of a store while it is being opened, and need not read them again. Knows no index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from iqdb_core.model import ChangeBatch


class Receiver(Protocol):
    """Begins with a store before it is open, and takes the changes of a first takeover as they are written.

    Nothing of what it takes is committed before `open_store` returns. If that raises, none of it ever was:
    it has to be forgotten, and nothing of it may have been kept anywhere. Called from the thread that opens
    the store; an exception would undo the takeover, so a receiver handles its own failures: what it did not
    take is in the feed.
    """

    def expect(self, store_id: str, n_changes: int) -> None:
        """Learn of a store that exists already, before it is compared with what other programs did.

        Parameters
        ----------
        store_id : str
        n_changes : int
            The newest seq of its feed; the comparison may still add to it.
        """

    def begin(self, store_id: str, n_images: int) -> bool:
        """Tell whether the changes are wanted. They may still not come, and are in the feed all the same.

        Parameters
        ----------
        store_id : str
            The name that the store will have.
        n_images : int
            Rows that will be looked at; about as many changes will come.
        """

    def get_ready(self) -> None:
        """Return when changes can be taken, while the database works for itself.

        Reading them takes the interpreter from whatever the receiver gets ready with.
        """

    def take(self, batch: ChangeBatch) -> None:
        """Take the next changes: those that `changes_since` the end of the batch before will return.

        May wait until there is room for them; the takeover waits meanwhile.

        Parameters
        ----------
        batch : ChangeBatch
            Never empty; its arrays are the receiver's. The first begins at seq 1.
        """
