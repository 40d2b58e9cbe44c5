"""The one way to Redis: timeouts on every call, scripts by their hash, and errors in the library's own words.

Knows no keys and no jobs. The ledgers stand on it; a process makes its own after a fork.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from iqdb_core.errors import ConfigError, QueueUnavailable
from iqdb_core.jobs.scripts import Script

SOCKET_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 2.0
HEALTH_CHECK_S: Final = 15

Argument = str | bytes | int
Command = tuple[Argument, ...]

_REFUSED_FOR_NOW: Final = ("OOM", "MISCONF", "READONLY", "LOADING", "MASTERDOWN", "BUSY ", "NOREPLICAS")
"""Answers of a server that cannot take a write now: full memory, full disk, a replica, a start."""


class RedisPort:
    """A pool of connections to one Redis, safe to use from several threads.

    Parameters
    ----------
    client : redis.Redis
        Made by `connect`, without decoding of answers.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client  # redis-py's generic calls carry no types

    @classmethod
    def connect(cls, url: str) -> Self:
        """Make a port for `url`; opens no connection yet.

        Parameters
        ----------
        url : str
            redis://HOST:PORT/DATABASE or rediss://, the two that Celery understands as well.

        Raises
        ------
        ConfigError
            An address that is none.
        """
        if not url.startswith(("redis://", "rediss://")):
            raise ConfigError(f"the address of Redis starts with redis:// or rediss://, not {url!r}")
        try:
            client = redis.Redis.from_url(
                url,
                socket_timeout=SOCKET_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_keepalive=True,
                health_check_interval=HEALTH_CHECK_S,
                # Once more over a new connection: every script may run twice. Waiting longer is the caller's
                # choice.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError as error:
            raise ConfigError(f"the address of Redis is not understood: {error}") from error
        return cls(client)

    def close(self) -> None:
        """Close every connection; the port may be used again and then opens new ones."""
        self._client.close()

    def run(
        self,
        script: Script,
        *arguments: Argument,
        before: Sequence[Command] = (),
        after: Sequence[Command] = (),
    ) -> Any:
        """Run a script in one step and return its answer.

        Parameters
        ----------
        script : Script
        arguments : str, bytes or int
        before, after : sequence of Command
            Sent in the same round trip, but not in the same step. The script has to look whether those before
            it succeeded: their errors are not reported.

        Returns
        -------
        object
            The script's answer; if there are commands after it, a list of its answer and theirs.

        Raises
        ------
        QueueUnavailable
            Redis is away, still loading, out of memory or read-only.
        """
        answers = self._run([*before, ("EVALSHA", script.sha, 0, *arguments), *after])
        mine = answers[len(before) :]
        if isinstance(mine[0], redis.exceptions.NoScriptError):
            mine = self._run([("EVAL", script.text, 0, *arguments), *after])
        with translated():
            for answer in mine:
                if isinstance(answer, Exception):
                    raise answer
        return mine if after else mine[0]

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one round trip and return the answers, errors of Redis among them."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute(raise_on_error=False))

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands that do not depend on each other in one round trip.

        Raises
        ------
        QueueUnavailable
            As in `run`.
        """
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute())

    def subscribe(self, channel: str) -> redis.client.PubSub:
        """Return a subscription with a connection of its own.

        Raises
        ------
        QueueUnavailable
            As in `run`.
        """
        with translated():
            subscription: redis.client.PubSub = self._client.pubsub(ignore_subscribe_messages=True)
            subscription.subscribe(channel)
            return subscription


@contextmanager
def translated() -> Iterator[None]:
    """Raise QueueUnavailable where Redis cannot serve; mistakes of ours pass unchanged."""
    try:
        yield
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise QueueUnavailable(f"Redis does not answer: {error}") from error
    except redis.exceptions.ResponseError as error:
        if isinstance(error, redis.exceptions.OutOfMemoryError) or any(
            word in str(error) for word in _REFUSED_FOR_NOW
        ):
            raise QueueUnavailable(f"Redis refuses for now: {error}") from error
        raise
