"""Compiles or loads the kernels in the background, while the plain forms answer.

Compiling takes half a minute of two cores, and much memory. So child processes compile one part each into the
cache, and this process loads the result. Called by composition roots. `python -m iqdb_core.compiling`
compiles everything at once, for container images and tests; with names of parts it is the child process.
"""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

from iqdb_core import cache_folder, compiler_memory, forms, index, signature
from iqdb_core.process_exit import DetachedThread

Room = Literal["signature", "index"]
_PARTS: Final[dict[Room, tuple[str, ...]]] = {"index": ("query", "segment"), "signature": ("signature",)}
"""In the order in which they are loaded: requests wait for the index first."""
_OF_QUERY: Final = ("iqdb_core.index.ranking.search:", "iqdb_core.index.row_code.")
"""Where the forms are that a query calls, which take about as long to compile as all others together."""
_NICENESS: Final = 5
"""Niceness of child processes: requests have priority over compiling."""
_HEAD_START_S: Final = 0.2
"""Waiting requests are answered before the rest is loaded, which takes much processor time."""
_COLLECT_AFTER: Final = (50_000, 20, 100)
"""A compiler creates millions of objects, few of them in cycles: collecting seldom saves a tenth of its time,
and costs 2 % of its memory."""
_log = logging.getLogger(__name__)


def are_kept(rooms: Sequence[Room]) -> bool:
    """Return whether all compiled forms of some rooms are on disk."""
    return all(cache_folder.is_kept(part) for room in rooms for part in _PARTS[room])


def is_in_room(place: str, room: Room) -> bool:
    """Return whether a form, given as "module:name", belongs to a room."""
    return place.startswith(f"iqdb_core.{room}.")


class Compilation:
    """Prepares the compiled forms of some rooms; until they are ready this process uses the plain ones.

    Parameters
    ----------
    rooms : sequence of {"signature", "index"}
        Rooms that the process needs.
    on_compiling : callable
        Called, from another thread, if anything has to be compiled, which takes long.
    on_fast : callable
        Called with the duration in seconds, if something was compiled.
    """

    def __init__(
        self, rooms: Sequence[Room], *, on_compiling: Callable[[], None], on_fast: Callable[[float], None]
    ) -> None:
        self._rooms = sorted(rooms, key=tuple(_PARTS).index)
        self._on_compiling = on_compiling
        self._on_fast = on_fast
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._over = threading.Event()
        self._ready = {room: threading.Event() for room in rooms}
        self._wanted = {room: threading.Event() for room in rooms}
        self._all_wanted = threading.Event()
        self._thread: DetachedThread | None = None
        self._parts = [part for room in rooms for part in _PARTS[room]]
        self._is_kept = are_kept(rooms)
        forms.use_plain(self._is_ours)
        if not self._is_kept:
            self.begin()

    @property
    def is_kept(self) -> bool:
        """Whether everything is compiled on disk, so that it is loaded within a second of `begin`."""
        return self._is_kept

    def begin(self, last: Room | None = None) -> None:
        """Begin, unless it has begun already.

        If something has to be compiled, the constructor calls this. Otherwise the caller chooses the moment:
        loading compiled code from disk takes half a second of this process, which can wait until it has
        answered the first requests.

        Parameters
        ----------
        last : {"signature", "index"}, optional
            The room that will be waited for. If it is compiled on disk, each of its forms is loaded at its
            first call. The rooms after it are left for another call.
        """
        if last is None:
            self._all_wanted.set()
        for room in self._rooms:
            self._wanted[room].set()
            if room == last:
                break
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = DetachedThread(self._run, name="compilation")
                self._thread.start()

    def wait(self, room: Room) -> None:
        """Wait until a room's compiled forms are in use, or never will be: after `close` or a failure."""
        self.begin(room)
        self._ready[room].wait()

    def close(self) -> None:
        """End the child processes and all waiting. Finished work stays on disk. Closing twice is harmless."""
        with self._lock:
            self._is_closed = True
            for child in self._children:
                child.kill()
        self._end()

    def _run(self) -> None:
        start = time.monotonic()
        try:
            if not self._is_kept:
                self._on_compiling()
                self._compile_aside()
            if self._is_closed:
                return
            if self._is_kept:
                self._use_what_is_wanted()
                self._over.wait(_HEAD_START_S)
            compiler_memory.load_lean()
            for room in self._rooms:
                if self._is_closed:
                    return
                self._warm_up(room)
            compiler_memory.give_back()
        except Exception as error:  # noqa: BLE001 - answers stay correct, only slower, and the log says why
            _log.error("kernels could not be compiled", exc_info=error, extra={"action": "compiling_failed"})
        else:
            if not self._is_kept:
                self._on_fast(time.monotonic() - start)
        finally:
            self._end()

    def _use_what_is_wanted(self) -> None:
        """Activate rooms that are waited for, loading each form at its first call, until all are wanted."""
        for room in self._rooms:
            self._wanted[room].wait()
            if self._all_wanted.is_set():
                return
            compiler_memory.load_lean()
            forms.use_preferred(partial(is_in_room, room=room))
            self._ready[room].set()
            if room == "index":
                index.load_for_queries()
        self._all_wanted.wait()

    def _warm_up(self, room: Room) -> None:
        """Load all compiled forms of one room, and use them."""
        with forms.compiled_here():
            {"signature": signature, "index": index}[room].warm_up()
        self._use(room)

    def _use(self, room: Room) -> None:
        forms.use_compiled(partial(is_in_room, room=room))
        self._ready[room].set()

    def _end(self) -> None:
        """End all waiting."""
        for event in (*self._wanted.values(), self._all_wanted, *self._ready.values(), self._over):
            event.set()

    def _is_ours(self, place: str) -> bool:
        return any(is_in_room(place, room) for room in self._rooms)

    def _compile_aside(self) -> None:
        """Let child processes compile everything into the cache; without a cache, leave it to this one."""
        if not cache_folder.can_keep():
            return
        with self._lock:
            if self._is_closed:
                return
            for parts in _shares(self._parts):  # one by one, so that `close` knows those that were started
                self._children.append(_child(parts))
        codes = [child.wait() for child in self._children]
        if any(codes) and not self._is_closed:
            _log.warning("compiling aside ended with %s", codes, extra={"action": "compiling_aside"})


def _shares(parts: Sequence[str]) -> list[list[str]]:
    """Share parts out to processes: one for what a query calls, which takes about as long as all the rest."""
    query = [part for part in parts if part == "query"]
    rest = [part for part in parts if part != "query"]
    return [share for share in (query, rest) if share]


def _child(parts: Sequence[str]) -> subprocess.Popen[bytes]:
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(  # noqa: S603 - this program
        [sys.executable, "-m", "iqdb_core.compiling", *parts],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the server, which ends its children itself
    )


def _is_of_query(place: str) -> bool:
    return place.startswith(_OF_QUERY)


def _is_not_of_query(place: str) -> bool:
    return not place.startswith(_OF_QUERY)


def compile_into_cache(part: str) -> None:
    """Compile a part into the cache, and note that; or wait until another process has done so."""
    with cache_folder.compiling_lock(part):
        if not cache_folder.is_kept(part):
            compile_part(part)
            cache_folder.mark_kept(part)


def compile_part(part: str) -> None:
    """Compile a part into the cache, or load it from there."""
    if part == "signature":
        signature.warm_up()
        return
    forms.use_plain(_is_of_query if part == "segment" else _is_not_of_query)
    index.warm_up()
    forms.use_compiled()


def compile_everything() -> int:
    """Compile everything into the cache, two parts at a time; return an exit code."""
    if are_kept(tuple(_PARTS)):
        return 0
    parts = [part for room in _PARTS.values() for part in room]
    children = [_child(share) for share in _shares(parts)]
    codes = [child.wait() for child in children]
    return int(any(codes))


if __name__ == "__main__":
    if sys.argv[1:]:
        os.nice(_NICENESS)
        gc.set_threshold(*_COLLECT_AFTER)
        for wanted in sys.argv[1:]:
            compile_into_cache(wanted)
    else:
        sys.exit(compile_everything())
