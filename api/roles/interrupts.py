"""Ctrl-C, SIGTERM and SIGHUP end a command within about a second, with a word on how to go on.

What they interrupt may wait for a server, or in C for a locked database, where Python raises nothing. So a
thread ends the process if the command does not end by itself. Killing it loses nothing that was acknowledged.
A command that was interrupted where Python could do so gets more time, in which it removes temporary files.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED: Final = 130
"""The exit code."""
GRACE_S: Final = 1.0
"""How long a command may take to end after a signal, seconds; a second signal ends it at once."""
TIDYING_S: Final = 10.0
"""How long it may take then to remove what it leaves unfinished, also on a busy machine, seconds."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupted_by_signals(last_words: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make the signals raise KeyboardInterrupt inside the block; `last_words` says how to go on.

    A signal that is ignored, as under `nohup`, stays ignored.
    """
    raised = []

    def end(number: int, _: object) -> NoReturn:
        raised.append(number)
        raise KeyboardInterrupt

    def drop(dropped: UnraisableHookArgs) -> None:
        """End where Python drops what `end` raised, as in a callback from C."""
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            hook(dropped)
            return
        try:
            tell()
        finally:
            os._exit(INTERRUPTED)

    hook = sys.unraisablehook
    with _ending_in_time(end, last_words, is_tidying=lambda: bool(raised)) as tell:
        sys.unraisablehook = drop
        try:
            yield
        except KeyboardInterrupt:
            tell()
            raise
        except SystemError as error:
            if not raised:
                raise
            # Python makes this of what the handler raised while a compiled function was called.
            tell()
            raise KeyboardInterrupt from error
        finally:
            sys.unraisablehook = hook


@contextmanager
def stopped_by_signals(stopping: threading.Event, last_words: Callable[[], None]) -> Iterator[None]:
    """Make the signals set an event; `last_words` is called only if the block does not end in time then."""
    with _ending_in_time(lambda *_: stopping.set(), last_words):
        yield


@contextmanager
def _ending_in_time(
    handler: Callable[[int, object], object],
    last_words: Callable[[], None],
    *,
    is_tidying: Callable[[], bool] = lambda: False,
) -> Iterator[Callable[[], None]]:
    """Handle signals during the block; yields what says the last words, once."""
    first = threading.Lock()

    def tell() -> None:
        if first.acquire(blocking=False):
            last_words()

    if threading.current_thread() is not threading.main_thread():
        yield tell  # only the main thread may set handlers, and gets signals
        return
    # Python writes the number of a signal there at once, wherever its main thread is.
    heard, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    given = heard, tell, is_tidying
    watch = threading.Thread(target=_end_in_time, args=given, name="interrupts", daemon=True)
    watch.start()
    wakeup_before = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    before = {
        number: signal.signal(number, handler)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield tell
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(wakeup_before)
        os.close(wakeup)
        watch.join()
        os.close(heard)


def _end_in_time(heard: int, tell: Callable[[], None], is_tidying: Callable[[], bool]) -> None:
    """End the process if the block goes on after a signal."""
    while (number := os.read(heard, 1)) and number[0] not in SIGNALS:
        pass
    if not number:
        return  # the block is over
    has_heard, _, _ = select.select([heard], [], [], GRACE_S)
    if not has_heard and is_tidying():
        has_heard, _, _ = select.select([heard], [], [], TIDYING_S)
    if has_heard and not os.read(heard, 1):
        return
    try:
        tell()
    finally:  # not by `exit_now`: the main thread may be inside of a standard stream
        os._exit(INTERRUPTED)
