"""The ledger's transactions: Lua that Redis runs as one step each, one file per script in `lua/`.

Every script may run twice with the same arguments without harm, because a lost answer is retried. `JobLedger`
and `WorkLedger` run them; nothing else knows the keys.

Keys, below the prefix:

    clock            last revision given out, microseconds
    finish_clock     last place given out in the lists of final jobs, microseconds
    delivered        newest sending time of a message that a worker has started, microseconds
    bytes            sum of the payloads of jobs that are not final
    job:ID           hash: state kind image_id revision bytes attempts deferrals reason error signature
                     seq created updated
    payload:ID       what the worker needs; gone when the job is final
    jobs             sorted set of all jobs by revision
    jobs:STATE       those in a state: queued and running by revision, done and failed as they became so
    waiting          jobs whose message should be in the queue, by the time it was sent
    due              jobs with a worker or put back, by the time at which the sweep sends them again
    workers          workers by the time they last said they are there
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua text and the SHA-1 by which Redis knows it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.text.encode()).hexdigest())  # noqa: S324 - no secret

    @classmethod
    def load(cls, name: str) -> Self:
        """Return the script `lua/NAME.lua`, with what all of them share before it."""
        folder = files(__package__) / "lua"
        return cls("\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("common", name)))


ACCEPT: Final = Script.load("accept")
NEXT_REVISION: Final = Script.load("next_revision")
SEED: Final = Script.load("seed")
START: Final = Script.load("start")
BEGIN: Final = Script.load("begin")
HASHED: Final = Script.load("hashed")
RELEASE: Final = Script.load("release")
FINISH: Final = Script.load("finish")
SWEEP: Final = Script.load("sweep")
