"""The one way to Redis: a timeout on every call, scripts by their hash, and errors of `iqdb_core.errors`.

Knows no keys and no jobs. The ledgers use it; a process makes its own after a fork.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from iqdb_core.errors import ConfigError, IqdbError, QueueRefused, QueueUnavailable, WrongUsage
from iqdb_core.jobs.scripts import Script

SOCKET_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 2.0
HEALTH_CHECK_S: Final = 15

Argument = str | bytes | int
Command = tuple[Argument, ...]

_NOT_NOW: Final = ("LOADING", "MASTERDOWN", "BUSY ", "UNBLOCKED")
"""Answers of a server that cannot serve for a while: it is starting, or a replica without its master."""
_RIGHTS: Final = "its user lacks a right that is needed"
_KEYS: Final = re.compile(r"access (a|the|one of the|at least one of the) (key|'[^']*' key)")
"""How Redis refuses a key to a user who may run the command."""
_COMMAND: Final = re.compile(r"to run the '([^']+)' command")
"""How it refuses the command itself; of scripts only from Redis 7.2 on."""
_REFUSALS: Final = {
    "OOM": "its memory is full",
    "MISCONF": "it cannot write to its disk",
    "READONLY": "it is a replica, which takes no writes",
    "NOREPLICAS": "it has too few replicas",
    "DENIED": "it is in protected mode",
    "NOPERM": _RIGHTS,
    "EXEC without MULTI": "its user may not run MULTI",  # of which the client library drops the refusal
    "The user executing the script can't": _RIGHTS,  # Redis 6.0 to 7.0
    "ACL failure in script": _RIGHTS,  # since then
}
"""Answers of a server that serves only when its operator has done something, and what clients are told."""
_WORDS: Final = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.NoPermissionError: "NOPERM",
}
"""The word that the client library removes from these errors, unless a script met them."""
_AFTER_COMMAND: Final = "of pipeline caused error: "
_UNKNOWN: Final = re.compile("unknown (redis )?command", re.IGNORECASE)
"""How Redis answers a command that has another name (`rename-command`), is switched off, or unknown."""


class Memory(NamedTuple):
    """The memory of a server with a limit: bytes in use, the limit, and the policy at the limit."""

    used: int
    most: int
    policy: str


class _ClosedWhileIdle(redis.exceptions.RedisError):
    """An idle connection was closed by the other side; another server may answer now."""


class RedisPort:
    """A pool of connections to one Redis, safe to use from several threads.

    Parameters
    ----------
    client : redis.Redis
        Made by `connect`, without decoding of answers.

    Attributes
    ----------
    breaks : int
        How often a connection broke, also while idle, or gave no answer. Another server may answer since.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client  # redis-py's generic calls carry no types
        pool = client.connection_pool
        pool.connection_class = _reporting(pool.connection_class)
        self.breaks = 0

    @classmethod
    def connect(cls, url: str, *, sentinel_master: str = "") -> Self:
        """Make a port for `url`; opens no connection yet.

        Parameters
        ----------
        url : str
            redis://HOST:PORT/DATABASE, rediss:// for TLS, or sentinel://HOST:PORT/DATABASE, several of them
            separated by semicolons, as Celery has it.
        sentinel_master : str
            What the sentinels call the master.

        Raises
        ------
        WrongUsage
            The address is invalid.
        """
        options = {
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": HEALTH_CHECK_S,
            "retry": Retry(NoBackoff(), 0),  # `_execute` repeats, and counts
        }
        try:
            if url.startswith("sentinel://"):
                return cls(_master_behind(url, sentinel_master, options))
            if not url.startswith(("redis://", "rediss://")):
                shown = without_secrets(url)
                raise WrongUsage(
                    f"the address of Redis starts with redis://, rediss:// or sentinel://, not {shown!r}"
                )
            database = urlsplit(url).path.strip("/") or "0"
            if not database.isdecimal():
                but = "" if "@" in database else f", not {database!r}"  # of a password with a slash in it
                raise WrongUsage(f"the address of Redis ends with the number of a database{but}")
            client = redis.Redis.from_url(url, **options)
            pool = client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # refuses options that are none; connects nowhere
            return cls(client)
        except (ValueError, TypeError) as error:
            # What is wrong may be a part of a password that should have been quoted.
            what = f"{without_secrets(url)!r} and what follows" if "@" in url else str(error)
            raise WrongUsage(f"the address of Redis is not understood: {what}") from error

    def close(self) -> None:
        """Close every connection; the port may be used again and then opens new ones."""
        self._client.close()

    def run(
        self,
        script: Script,
        *arguments: Argument,
        before: Sequence[Command] = (),
        before_repeating: Callable[[], None] | None = None,
    ) -> Any:
        """Run a script in one step and return its answer.

        Parameters
        ----------
        script : Script
        arguments : str, bytes or int
        before : sequence of Command
            Run with the script as one transaction, so that Redis flushes its file once for all of them. The
            script has to check whether they succeeded: their errors are not reported.
        before_repeating : callable, optional
            Called when the answer was lost, before all is sent again; what it raises is raised.

        Raises
        ------
        QueueUnavailable
            Redis is away or still loading; QueueRefused if it is out of memory, read-only, or refuses the
            user.
        ConfigError
            It lacks a command that is needed.
        """
        with translated():
            call: Command = ("EVALSHA", script.sha, 0, *arguments)
            answer = self._execute([*before, call], before_repeating, is_whole=bool(before))[-1]
            if isinstance(answer, redis.exceptions.NoScriptError):
                # With its text, which Redis keeps: after SCRIPT LOAD it could be flushed before the call.
                # Not in a transaction, which a full Redis would refuse to workers.
                answer = self._execute([("EVAL", script.text, 0, *arguments)], before_repeating)[-1]
            _raise_first([answer])
            return answer

    def read(self, commands: Sequence[Command], *, is_whole: bool = False) -> list[Any]:
        """Run commands that do not depend on each other in one round trip.

        Parameters
        ----------
        commands : sequence of Command
        is_whole : bool
            Whether they are one transaction: Redis then flushes its file once, and not after each of them.

        Raises
        ------
        QueueUnavailable
            As in `run`.
        """
        with translated():
            answers = self._execute(commands, is_whole=is_whole)
            _raise_first(answers)
            return answers

    def run_id(self) -> str:
        """Return the random id that the server got when it was started.

        If INFO is not allowed, or does not show it, a new id each time: nobody can tell then whether the
        server is still the same, so it counts as another.

        Raises
        ------
        QueueUnavailable
            Redis does not answer, or cannot serve now.
        """
        with translated():
            answer = self._info("server")
            if isinstance(answer, redis.exceptions.NoPermissionError) or _is_unknown_command(answer):
                return secrets.token_hex(20)
            _raise_first([answer])
        return str(answer.get("run_id") or secrets.token_hex(20))

    def keeps_log(self) -> bool:
        """Return whether what the server takes outlasts its process; True if INFO is not allowed.

        Raises
        ------
        QueueUnavailable
            Redis does not answer.
        """
        with translated():
            answer = self._info("persistence")
        return isinstance(answer, Exception) or bool(answer.get("aof_enabled", 1))

    def memory(self) -> Memory | None:
        """Return how full the server's memory is; None if there is no limit, or INFO is not allowed.

        Raises
        ------
        QueueUnavailable
            Redis does not answer.
        """
        with translated():
            answer = self._info("memory")
        if isinstance(answer, Exception):  # a user's rights; or it cannot serve now, and says so elsewhere
            return None
        used, most = (int(answer.get(name, 0)) for name in ("used_memory", "maxmemory"))
        return Memory(used, most, str(answer.get("maxmemory_policy", ""))) if most else None

    def _info(self, section: str) -> Any:
        """Return what INFO tells, by name, or the error that Redis answers."""
        (answer,) = self._execute([("INFO", section)])
        return answer

    def _execute(
        self,
        commands: Sequence[Command],
        before_repeating: Callable[[], None] | None = None,
        *,
        is_whole: bool = False,
    ) -> list[Any]:
        """Send commands in one round trip and return the answers, errors of Redis among them.

        If there is no answer they are sent once more, over a new connection: all of them may run twice. Any
        further attempt is up to the caller.
        """
        tries, has_looked = 2, False
        while True:
            pipeline = self._client.pipeline(transaction=is_whole)
            for command in commands:
                pipeline.execute_command(*command)
            try:
                return list(pipeline.execute(raise_on_error=False))
            except _ClosedWhileIdle:  # nothing was sent: not counted as a try, but only once, so that it ends
                self.breaks += 1
                self._client.connection_pool.disconnect(inuse_connections=False)  # they were closed, too
                if has_looked:
                    raise
                has_looked = True
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                self.breaks += 1
                tries -= 1
                if tries == 0:
                    raise
            if before_repeating is not None:
                before_repeating()

    def subscribe(self, channel: str, *, is_confirmed: bool = False) -> redis.client.PubSub:
        """Return a subscription with a connection of its own.

        Parameters
        ----------
        channel : str
        is_confirmed : bool
            Whether its first message says that it has begun.

        Raises
        ------
        QueueUnavailable
            As in `run`.
        """
        with translated():
            subscription: redis.client.PubSub = self._client.pubsub(
                ignore_subscribe_messages=not is_confirmed
            )
            try:
                subscription.subscribe(channel)
            except _ClosedWhileIdle:
                self.breaks += 1
                subscription.subscribe(channel)
            return subscription


def _reporting(kind: Any) -> Any:
    """Return a class of connections that raise _ClosedWhileIdle.

    The pool would silently connect anew, perhaps to a server that lacks what the other one had.
    """

    class Reporting(kind):  # type: ignore[misc]
        def can_read(self, timeout: float = 0) -> bool:
            """Return whether something can be read; the pool asks before it lends a connection."""
            try:
                return bool(super().can_read(timeout))
            except (redis.exceptions.ConnectionError, OSError) as error:
                self.disconnect()
                raise _ClosedWhileIdle(str(error)) from error

    return Reporting


@contextmanager
def translated() -> Iterator[None]:
    """Raise QueueUnavailable where Redis cannot serve, ConfigError where it lacks a command we need.

    Bugs of ours pass unchanged.
    """
    try:
        yield
    except redis.exceptions.DataError:  # we gave it something that cannot be sent
        raise
    except redis.exceptions.InvalidResponse as error:
        raise QueueUnavailable(f"what answers there is not Redis: {error}") from error
    except redis.exceptions.ResponseError as error:
        word = next((word for kind, word in _WORDS.items() if isinstance(error, kind)), "")
        # The client library puts the command before it, with a whole image perhaps.
        shown = str(error).rpartition(_AFTER_COMMAND)[2]
        said = _refusal(f"{word} {shown}", shown)
        if said is None:
            raise
        raise said from error
    except redis.exceptions.AuthenticationError as error:
        mistake = "it does not accept the user or the password"
        raise QueueRefused(f"Redis refuses for now: {mistake}: {error}", mistake) from error
    except redis.exceptions.RedisError as error:
        raise QueueUnavailable(f"Redis does not answer: {error}") from error


def _refusal(answer: str, shown: str, commands: str = "") -> IqdbError | None:
    """Return the error that an answer of Redis stands for; None if it is a bug of ours."""
    if any(word in answer for word in _NOT_NOW):
        return QueueUnavailable(f"Redis refuses for now: {shown}")
    for word, mistake in _REFUSALS.items():
        if word in answer:
            what = _missing_right(shown, commands) if mistake is _RIGHTS else mistake
            return QueueRefused(f"Redis refuses for now: {what}: {shown}", what)
    if _UNKNOWN.search(answer):
        said = shown.partition(", with args")[0]  # which may be a whole script
        but = f": {commands}" if commands else ""
        return ConfigError(
            f"Redis lacks a command that the queue needs, renamed or switched off perhaps{but}: {said}"
        )
    return None


def _missing_right(shown: str, commands: str) -> str:
    """Return what the user may not do; `commands` are those that were tried, '' if `shown` may name one."""
    if _KEYS.search(shown):
        return "its user may not use the keys of the queue"
    named = _COMMAND.search(shown)
    commands = commands or (named[1].upper() if named else "")
    return f"its user may not run {commands}" if commands else _RIGHTS


def raise_refused(answer: Sequence[bytes]) -> None:
    """Raise an error if `rights.lua` found commands that are refused.

    Raises
    ------
    QueueRefused
        The user lacks a right, or the server takes no writes.
    QueueUnavailable
        The server cannot serve now.
    ConfigError
        It lacks commands.
    """
    if not answer:
        return
    words = [word.decode("utf-8", "replace") for word in answer]
    pairs = list(zip(words[0::2], words[1::2], strict=True))
    # Commands first: a user without a right to the keys is refused every command.
    named = [pair for pair in pairs if not _KEYS.search(pair[1])] or pairs
    command, said = named[0]
    refusal = _refusal(said, said, ", ".join(name for name, _ in named))
    raise refusal or QueueUnavailable(f"Redis refuses {command}: {said}")


def _is_unknown_command(answer: object) -> bool:
    return isinstance(answer, redis.exceptions.ResponseError) and bool(_UNKNOWN.search(str(answer)))


def without_secrets(url: str) -> str:
    """Return the scheme of an address that may be malformed, and its host if that is certainly no secret."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    authority, *others = re.split("[/?#;]", rest)
    is_split = any("@" in one for one in others)  # by such a sign in the password
    host = "" if is_split else authority.rpartition("@")[2]
    return f"{scheme.rpartition('@')[2]}{mark}{host}"


def _raise_first(answers: Sequence[Any]) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer


def _master_behind(url: str, name: str, options: Mapping[str, Any]) -> redis.Redis:
    """Return a client of the master that the sentinels of `url` name; user and password are the master's."""
    if not name:
        raise WrongUsage("sentinels need the name of their master: IQDB_REDIS_SENTINEL_MASTER")
    parts = [urlsplit(one if "://" in one else f"sentinel://{one}") for one in url.split(";") if one]
    if not all(part.hostname for part in parts):
        raise WrongUsage(f"the address of a sentinel is sentinel://HOST:PORT, not {without_secrets(url)!r}")
    database = next((part.path.strip("/") for part in reversed(parts) if part.path.strip("/")), "0")
    user = next((part.username for part in parts if part.username), None)
    password = next((part.password for part in parts if part.password), None)
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(part.hostname, part.port or 26379) for part in parts],
        sentinel_kwargs={name: options[name] for name in ("socket_timeout", "socket_connect_timeout")},
    )
    master: redis.Redis = sentinel.master_for(
        name,
        db=int(database),
        username=unquote(user) if user else None,
        password=unquote(password) if password else None,
        **options,
    )
    return master
