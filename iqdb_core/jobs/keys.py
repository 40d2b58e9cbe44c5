"""Names in Redis that more than one role must agree on: the prefix of every key, the queue, the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from iqdb_core.errors import WrongUsage

QUEUE: Final = "iqdb"
"""Celery's name of the queue."""
DEFAULT_PREFIX: Final = "iqdb:"


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of one deployment.

    Parameters
    ----------
    prefix : str
        Every key and channel starts with it, Celery's own included: deployments that share a Redis database
        take a different one each.

    Raises
    ------
    WrongUsage
        The prefix is empty, or has spaces or characters other than printable ASCII.
    """

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        is_plain = self.prefix.isascii() and self.prefix.isprintable() and " " not in self.prefix
        if not self.prefix or not is_plain:
            raise WrongUsage(f"the prefix of keys in Redis is a word like 'iqdb:', not {self.prefix!r}")

    @property
    def broker_prefix(self) -> str:
        """What Celery puts before each of its keys."""
        return f"{self.prefix}celery:"

    @property
    def queue(self) -> str:
        """The Redis list in which Celery keeps waiting messages, first in first out."""
        return f"{self.broker_prefix}{QUEUE}"

    @property
    def changes_channel(self) -> str:
        """After each commit its seq is published here: a hint for followers, which also poll."""
        return f"{self.prefix}changes"

    @property
    def finished_channel(self) -> str:
        """Ids of jobs that became final are published here, separated by spaces: a hint for who waits."""
        return f"{self.prefix}finished"


DEFAULT_KEYS: Final = Keys()
