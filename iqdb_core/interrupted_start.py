"""Ctrl-C before a command or a role handles it: while most of the program is still to be imported."""

import signal


def end_silently() -> None:
    """Let SIGINT end the process, as SIGTERM does; Python would print where in an import it was.

    It stays ignored where it is ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
