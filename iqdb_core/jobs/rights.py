"""Runs scripts only once Redis is known to allow each of their commands.

Redis undoes nothing of a script if it refuses a command half way. So all commands are tried at the start on
keys that nothing else uses, and again after each refusal, before anything is accepted, claimed or ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from iqdb_core.errors import QueueRefused
from iqdb_core.jobs.connection import Argument, Command, RedisPort, raise_refused
from iqdb_core.jobs.scripts import RIGHTS, Script


class CheckedScripts:
    """Runs the ledger's scripts; safe to use from several threads.

    Parameters
    ----------
    port : RedisPort
    prefix : str
        Of every key; the first argument of every script.
    in_transactions : bool
        Whether some are run with commands `before` them, which a full Redis refuses.
    """

    def __init__(self, port: RedisPort, prefix: str, *, in_transactions: bool = False) -> None:
        self._port = port
        self._prefix = prefix
        self._in_transactions = in_transactions
        self._is_checked = False

    def check(self) -> None:
        """Try whether Redis allows all that scripts need, and takes writes; raises as `run`."""
        if self._in_transactions:
            # Without the right to MULTI the commands would run one by one, and only EXEC would be refused.
            self._port.read([("PING",)], is_whole=True)
        raise_refused(self._port.run(RIGHTS, self._prefix))
        self._is_checked = True

    def run(
        self,
        script: Script,
        *arguments: Argument,
        before: Sequence[Command] = (),
        before_repeating: Callable[[], None] | None = None,
    ) -> Any:
        """Run a script with the prefix and `arguments`; else as `RedisPort.run`.

        Raises
        ------
        QueueRefused
            Redis answers and refuses. If a right is missing nothing was changed, unless it was taken away
            since the last check.
        QueueUnavailable, ConfigError
            As in `RedisPort.run`.
        """
        if not self._is_checked:
            self.check()
        try:
            return self._port.run(
                script, self._prefix, *arguments, before=before, before_repeating=before_repeating
            )
        except QueueRefused:
            self._is_checked = False
            raise
