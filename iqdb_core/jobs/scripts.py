"""The ledger's transactions: Lua that Redis runs as one step each, one file per script in `lua/`.

Every script may run twice with the same arguments without harm, because a lost answer is asked for again.
`JobLedger` and `WorkLedger` run them (by `CheckedScripts`); nothing else knows the keys.

Keys, below the prefix:

    store            id of the store that the jobs are for
    clock            last revision given out, microseconds
    shifts           list, oldest first: up to which revision those moved that were yet to be written, by what
    finish_clock     last place given out in the lists of final jobs, microseconds
    bytes            sum of the payloads of jobs that are not final
    drain            hash: since jobs bytes, what became final since then; jobs_per_s bytes_per_s, the rates
    job:ID           hash: state kind lane image_id revision bytes source if_absent holder attempts deferrals
                     reason error signature seq damaged
    staged:ID        a payload that is not accepted yet; expires by itself
    payload:ID       what the worker needs; gone when the job is final
    jobs             sorted set of all jobs by revision
    jobs:STATE       those in a state: queued and running by revision, done and failed as they became so
    lane:interactive, lane:bulk
                     queued jobs by revision: those that someone waits for, and the others
    lane:suspect     queued jobs whose claimant died, by revision
    suspect          the last claim of one: claimant and ticket
    later            queued jobs that were put back, by the time from which they may be claimed
    turn             counts the claims that found several lanes filled
    claim:CLAIMANT   list: ticket and job ids of the one claim that a claimant has
    leases           claimants by the time at which they are taken for dead
    workers          workers by the time of their last report
    idle, woken      claimants that found nothing to do, by the time at which they look again by themselves:
                     those that listen, and those that were woken
    wake:CLAIMANT    list on which such a claimant listens
    tried:*          exist for a moment while it is tried whether each command is allowed
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files
from typing import Final, Self

from iqdb_core.errors import StoreInvalid

_MOST_REVISION: Final = 2**53 - 2**40
"""Numbers of Lua and scores of Redis are exact up to 2**53; this leaves the clock room to count on."""


def check_countable(revision: int) -> None:
    """Raise StoreInvalid if scripts cannot count beyond this: several writes would get the same revision."""
    if revision > _MOST_REVISION:
        raise StoreInvalid(
            f"the newest revision of the database, {revision}, is beyond {_MOST_REVISION}, the most that a"
            " queue counts to; perhaps a clock was beyond the year 2255. A new database with its images"
            " (iqdb export, iqdb add) starts from the present time"
        )


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua text and the SHA-1 by which Redis knows it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.text.encode()).hexdigest())  # noqa: S324 - no secret

    @classmethod
    def load(cls, name: str, *parts: str) -> Self:
        """Return the script `lua/NAME.lua` with `common.lua` before it.

        The scripts of `parts` are between them, each as a function `run_PART` of its arguments.
        """
        functions = [f"local function run_{part}(ARGV)\n{_read(part)}\nend" for part in parts]
        return cls("\n".join([_read("common"), *functions, _read(name)]))


def _read(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text("utf-8")


ACCEPT: Final = Script.load("accept")
RENUMBER: Final = Script.load("renumber")
SEED: Final = Script.load("seed")
CLAIM: Final = Script.load("claim")
FINISH: Final = Script.load("finish")
FINISH_AND_CLAIM: Final = Script.load("finish_and_claim", "finish", "claim")
FORFEIT: Final = Script.load("forfeit")
SWEEP: Final = Script.load("sweep")
RIGHTS: Final = Script.load("rights")

ALL: Final = (ACCEPT, RENUMBER, SEED, CLAIM, FINISH, FINISH_AND_CLAIM, FORFEIT, SWEEP, RIGHTS)
