"""Names in Redis that more than one role must agree on: the prefix of every key, the queue, the channels."""

from __future__ import annotations

from typing import Final

QUEUE: Final = "iqdb"
"""Celery's name of the queue."""

KEY_PREFIX: Final = "iqdb:"
"""Every key of ours in Redis starts with it, Celery's own included."""
BROKER_PREFIX: Final = f"{KEY_PREFIX}celery:"
QUEUE_KEY: Final = f"{BROKER_PREFIX}{QUEUE}"
"""The Redis list in which Celery keeps waiting messages, first in first out."""

CHANGES_CHANNEL: Final = f"{KEY_PREFIX}changes"
"""A seq is published here after each commit: a hint for followers, who would find it by polling."""
FINISHED_CHANNEL: Final = f"{KEY_PREFIX}finished"
"""Ids of jobs that became final, separated by spaces: a hint for those who wait, as above."""
