"""What workers count of their stages is added up in Redis, and kept while that is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqdb_core.jobs import JobLedger, RedisPort
from iqdb_core.jobs.model import BUCKETS_S
from iqdb_core.jobs.stages import AWAY_S, FLUSH_S, StageTally

if TYPE_CHECKING:
    from tests.fixtures.redis import RedisServer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_several_processes_add_up(redis_port: RedisPort, ledger: JobLedger) -> None:
    clock = Clock()
    tallies = [StageTally(redis_port, clock=clock) for _ in range(2)]
    assert ledger.stages()["decode"].counts == (0,) * (len(BUCKETS_S) + 1)
    for tally in tallies:
        for seconds in (0.0005, 0.0006, 99.0):
            tally.observe("decode", seconds)
    assert ledger.stages()["decode"].total_s == 0
    clock.now += FLUSH_S
    for tally in tallies:
        tally.observe("commit", 0.01)
    decode = ledger.stages()["decode"]
    assert (decode.counts[0], decode.counts[1], decode.counts[-1], sum(decode.counts)) == (2, 2, 2, 6)
    assert round(decode.total_s, 4) == 198.0022
    assert sum(ledger.stages()["commit"].counts) == 2


def test_what_is_counted_while_redis_is_away_comes_later(redis_server: RedisServer) -> None:
    """And it is asked seldom: one that hangs would hold up each image of a task for many seconds."""
    port = RedisPort.connect(redis_server.url)
    clock = Clock()
    tally = StageTally(port, clock=clock)
    redis_server.kill()
    try:
        for clock.now in (FLUSH_S, 2 * FLUSH_S, 0.9 * AWAY_S):
            tally.observe("hash", 1.0)
        assert port.breaks == 2  # one attempt
    finally:
        redis_server.start()
    clock.now += AWAY_S
    tally.observe("hash", 1.0)
    assert sum(JobLedger(port, revision_floor=lambda: 0).stages()["hash"].counts) == 4
    port.close()
