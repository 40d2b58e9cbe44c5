"""The worker's side of the ledger: claims jobs, finishes them or puts them back, and counts missing messages.

Never decodes an image and never writes to the store; `worker.handlers` does both between these calls. Their
order keeps accepted jobs from being lost: payloads are deleted only by `finish`, after the commit.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iqdb_core import codec
from iqdb_core.errors import ForeignQueue, QueueUnavailable
from iqdb_core.jobs.connection import Argument, RedisPort
from iqdb_core.jobs.keys import DEFAULT_KEYS, Keys
from iqdb_core.jobs.messages import CLAIM_JOBS, VISIBILITY_TIMEOUT_S
from iqdb_core.jobs.model import Claim, ClaimedJob, Done, Failed, Idling, JobKind, PutBack
from iqdb_core.jobs.reading import MICROSECONDS
from iqdb_core.jobs.rights import CheckedScripts
from iqdb_core.jobs.scripts import (
    CLAIM,
    FINISH,
    FINISH_AND_CLAIM,
    FORFEIT,
    RENUMBER,
    SWEEP,
    check_countable,
)
from iqdb_core.model import Write, WriteOutcome

_CLAIM_BYTES: Final = 16 * 1024 * 1024
"""Most payload bytes in one claim, unless a single job has more; a process holds them beside an image."""
_SHORTEST_PAUSE_S: Final = 0.01
"""To Redis 0 means for ever, and 6.2 rounds 0.001 to 0."""
_SWEPT: Final = 1000
"""Most records that one sweep drops, since a long script would hold Redis up."""
_REASON_CHARACTERS: Final = 1000
"""A reason may quote what a client sent, so it is cut."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how many records of final jobs are kept.

    Parameters
    ----------
    done_s, failed_s : int
        Seconds.
    max_records : int
        Most records of each kind, 1 to 2 KB of Redis each; the oldest go first.
    """

    done_s: int = 3600
    failed_s: int = 7 * 86400
    max_records: int = 100_000


class WorkLedger:
    """The worker's side of the ledger, for one claimant, which has one claim at a time.

    Parameters
    ----------
    port : RedisPort
    claimant : str
        Its name, which must be unique; if empty, a random one.
    retention : Retention
    lease_s : float
        A claimant that neither finishes nor claims for this long is taken for dead.
    suspect_pause_s : float
        A job whose claimants died twice or more waits one to two times this long before it is claimed again.
    store_id : callable
        Returns the id of the store to which the claimant writes; '' if that is not known.
    keys : Keys

    Attributes
    ----------
    claimant : str
    """

    def __init__(
        self,
        port: RedisPort,
        *,
        claimant: str = "",
        retention: Retention = Retention(),
        lease_s: float = VISIBILITY_TIMEOUT_S,
        suspect_pause_s: float = 3.0,
        store_id: Callable[[], str] = str,
        keys: Keys = DEFAULT_KEYS,
    ) -> None:
        self._port = port
        self.claimant = claimant or secrets.token_hex(8)
        self._lease_us = int(lease_s * MICROSECONDS)
        self._suspect_pause_us = int(suspect_pause_s * MICROSECONDS)
        self._store_id = store_id
        self._keys = keys
        self._prefix = keys.prefix
        self._scripts = CheckedScripts(port, keys.prefix)
        self._keep = (
            retention.done_s * MICROSECONDS,
            retention.failed_s * MICROSECONDS,
            retention.max_records,
        )

    def close(self) -> None:
        """Close the connections."""
        self._port.close()

    def claim(self, max_jobs: int = CLAIM_JOBS, idling: Idling | None = None) -> Claim:
        """Claim the next jobs, with their payloads.

        With `idling`, a claimant that gets none must `wait`: accepting jobs wakes it.

        Jobs of an earlier claim that it did not finish go back without blame: the claimant lives. Each image
        is blamed for the claim, in case the process dies, until it is finished or put back. Two claimants may
        hold the same job if a lease ran out while its claimant was alive. That costs only time: the store
        drops the second write as stale.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        ForeignQueue
            The queue holds jobs of another store.
        StoreUnavailable
            The id of the store is not known yet, and the store is away.
        """
        ticket = secrets.token_hex(8)
        answer = self._scripts.run(CLAIM, *self._claim_arguments(ticket, max_jobs, idling))
        return self._claimed(ticket, answer)

    def wait(self, claim: Claim, idling: Idling) -> bool:
        """Wait for jobs, after a claim with `idling` that got none.

        Returns
        -------
        bool
            Whether there may be some; False if the claimant was not woken in time, or Redis is away.
        """
        key = f"{self._prefix}wake:{self.claimant}"
        try:
            if not (claim.waiting and idling.gather_s):
                word = self._port.read([("BLPOP", key, _pause(idling.linger_s))])[0]
                if word is None or word[1] != b"soon":
                    return word is not None
            if idling.gather_s:
                self._port.read([("BLPOP", key, _pause(idling.gather_s))])
        except QueueUnavailable:
            return False
        return True

    def finish(self, claim: Claim, outcomes: Sequence[Done | Failed | PutBack]) -> int:
        """End a claim; call it after the commit. Jobs without an outcome go back into the queue.

        Makes jobs final, deletes their payloads and publishes their ids.

        Returns
        -------
        int
            How many were not final before; to finish twice is harmless.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        """
        return int(self._scripts.run(FINISH, *self._finish_arguments(claim, outcomes)))

    def finish_and_claim(
        self,
        claim: Claim,
        outcomes: Sequence[Done | Failed | PutBack],
        max_jobs: int = CLAIM_JOBS,
        idling: Idling | None = None,
    ) -> Claim:
        """End a claim and make the next one in the same round trip; errors as in `claim`."""
        ticket = secrets.token_hex(8)
        ending = self._finish_arguments(claim, outcomes)
        claiming = self._claim_arguments(ticket, max_jobs, idling)
        answer = self._scripts.run(FINISH_AND_CLAIM, len(ending), *ending, *claiming)
        return self._claimed(ticket, answer)

    def renumber(self, stale: Sequence[tuple[Write, WriteOutcome]]) -> list[int | None]:
        """Return new revisions for writes that were stale only because another clock was ahead.

        Parameters
        ----------
        stale : sequence of (Write, WriteOutcome)
            With the revisions that were given out. The writes that they met are not themselves.

        Returns
        -------
        list of int or None
            None where the newer write is one of this ledger, or was made later. All revisions that are given
            out from now on are above these.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        StoreInvalid
            See `check_countable`.
        """
        if not stale:
            return []
        newest = max(outcome.newest_revision for _, outcome in stale)
        check_countable(newest)
        words = [
            word for write, outcome in stale for word in (write.image_id, write.revision, outcome.revision)
        ]
        answer = self._scripts.run(RENUMBER, newest, *words)
        return [int(word) if word else None for word in answer]

    def forfeit(self, claimant: str) -> None:
        """End the claim of another claimant that has died; its images are suspects.

        Raises
        ------
        QueueUnavailable
            Redis is away; the claim then ends with its lease.
        """
        self._scripts.run(FORFEIT, claimant, self._suspect_pause_us)

    def sweep(self, worker: str) -> int:
        """Note that `worker` is there, drop expired records, and count the messages that are missing.

        Also corrects times that are too far ahead because the clock of Redis was set back.

        Returns
        -------
        int
            How many messages the caller is to send.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        ForeignQueue
            The queue holds jobs of another store.
        """
        answer = self._scripts.run(
            SWEEP, *self._keep, _SWEPT, self._keys.queue, worker, self._store_id(), self._lease_us
        )
        if answer == b"foreign":
            raise ForeignQueue(self._prefix)
        return int(answer)

    def leave(self, worker: str) -> None:
        """Take `worker` off the list of workers; raises QueueUnavailable."""
        self._port.read([("ZREM", f"{self._prefix}workers", worker)])

    def _claim_arguments(self, ticket: str, max_jobs: int, idling: Idling | None) -> list[Argument]:
        linger_s, gather_s = (idling.linger_s, idling.gather_s) if idling else (0.0, 0.0)
        return [
            self._store_id(),
            self.claimant,
            ticket,
            self._lease_us,
            min(max(1, max_jobs), CLAIM_JOBS),
            _CLAIM_BYTES,
            self._suspect_pause_us,
            int(linger_s * MICROSECONDS),
            int(gather_s * MICROSECONDS),
        ]

    def _claimed(self, ticket: str, answer: Sequence[Any]) -> Claim:
        if answer[0] == b"foreign":
            raise ForeignQueue(self._prefix)
        rows = [[word.decode() for word in row] for row in answer[1:]]
        with_payload = [row[0] for row in rows if row[1] != JobKind.DELETE]
        payloads: dict[str, bytes | None] = {}
        if with_payload:
            found = self._port.read(
                [("MGET", *(f"{self._prefix}payload:{job_id}" for job_id in with_payload))]
            )[0]
            payloads = dict(zip(with_payload, found, strict=True))
        jobs = [
            ClaimedJob(
                job_id=row[0],
                kind=JobKind(row[1]),
                image_id=int(row[2]),
                revision=int(row[3]),
                attempts=int(row[4]),
                deferrals=int(row[5]),
                payload=payloads.get(row[0]),
                source=row[6] or None,
                if_absent=bool(row[7]),
            )
            for row in rows
        ]
        return Claim(ticket, jobs, int(answer[0]))

    def _finish_arguments(self, claim: Claim, outcomes: Sequence[Done | Failed | PutBack]) -> list[Argument]:
        words: list[Argument] = []
        head_seq: str | int = ""
        for outcome in outcomes:
            match outcome:
                case Done(job_id, seq, signature, is_damaged):
                    raw = codec.to_bytes(signature) if signature is not None else b""
                    words += [job_id, "done", raw, seq, "1" if is_damaged else ""]
                    head_seq = max(int(head_seq or 0), seq)
                case Failed(job_id, reason, error, in_the_way):
                    short = reason[:_REASON_CHARACTERS].encode("utf-8", "backslashreplace")
                    words += [job_id, "failed", short, error, "" if in_the_way is None else in_the_way]
                case PutBack(job_id, delay_s, is_to_blame, is_deferred):
                    flags = ("1" if is_to_blame else "", "1" if is_deferred else "")
                    words += [job_id, "back", int(delay_s * MICROSECONDS), *flags]
        channels = (self._keys.changes_channel, self._keys.finished_channel)
        return [*self._keep, head_seq, *channels, self.claimant, claim.ticket, *words]


def _pause(pause_s: float) -> str:
    """Return a timeout for Redis."""
    return f"{max(pause_s, _SHORTEST_PAUSE_S):.3f}"
