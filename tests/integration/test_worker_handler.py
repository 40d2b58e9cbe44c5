"""What happens to a chunk of jobs, on a real Redis and store: killed at every step, retried, set aside."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from iqdb_core.errors import QueueUnavailable, StoreUnavailable
from iqdb_core.jobs import JobLedger, JobState, RedisPort, Submission, WorkLedger
from iqdb_core.model import Signature, Write
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import SignatureStore, open_store
from tests.fixtures.noise import noise_png
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_until
from worker.handlers import IngestHandler, Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGES = [noise_png(seed) for seed in range(40)]
SIGNATURES = [from_image_bytes(image) for image in IMAGES]
BROKEN = b"this is no image"


class Killed(BaseException):
    """The process ended here."""


class Bench:
    """A ledger and a store of its own, and handlers on them.

    Parameters
    ----------
    port : RedisPort
    store : SignatureStore
    prefix : str
        Of this bench's keys, so that many share one Redis.
    """

    def __init__(self, port: RedisPort, store: SignatureStore, prefix: str) -> None:
        self.port = port
        self.store = store
        self.prefix = prefix
        self.ledger = JobLedger(port, revision_floor=store.max_revision, prefix=prefix)
        self.work = WorkLedger(port, prefix=prefix, queue_key=f"{prefix}queue")
        self.seconds = 0.0
        self.pauses: list[float] = []

    def handler(self, **parts: Any) -> IngestHandler:
        return IngestHandler(
            **{
                "ledger": self.work,
                "open_store": lambda: self.store,
                "hash_image": from_image_bytes,
                "patience": Patience(budget_s=10, retry_s=10),
                "now": lambda: self.seconds,
                "sleep": self._sleep,
                "chance": lambda: 1.0,
                **parts,
            }
        )

    def _sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.seconds += pause_s

    def accept(self, *submissions: Submission) -> list[str]:
        return [one.job_id for one in self.ledger.accept(submissions)]

    def accept_images(self, count: int) -> list[str]:
        return self.accept(*(Submission.of_image(number, IMAGES[number]) for number in range(count)))

    def states(self, job_ids: list[str]) -> list[JobState]:
        return [self.ledger.get(job_id).state for job_id in job_ids]

    def payloads(self) -> list[bytes]:
        return list(self.port.read([("KEYS", f"{self.prefix}payload:*")])[0])

    def stored(self) -> dict[int, Signature]:
        batch = self.store.changes_since(0, 1000)
        return {
            int(image_id): self.store.get(int(image_id))
            for image_id, is_live in zip(batch.image_ids, batch.is_live, strict=True)
            if is_live
        }


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisPort]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    port = RedisPort.connect(server.url)
    yield port
    port.close()
    server.kill()


@pytest.fixture
def make_bench(port: RedisPort, tmp_path: Path) -> Iterator[Callable[[], Bench]]:
    stores: list[SignatureStore] = []

    def make() -> Bench:
        stores.append(open_store(f"{tmp_path}/{len(stores)}.sqlite"))
        return Bench(port, stores[-1], f"{tmp_path.name}-{len(stores)}:")

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def bench(make_bench: Callable[[], Bench]) -> Bench:
    return make_bench()


def test_a_chunk_is_decoded_committed_and_finished(bench: Bench) -> None:
    job_ids = bench.accept(
        Submission.of_image(1, IMAGES[1]),
        Submission.of_image(2, BROKEN),
        Submission.of_signature(3, SIGNATURES[3]),
        Submission.of_image(4, IMAGES[4]),
        Submission.of_delete(4),
        Submission.of_image(5, b""),
    )
    bench.handler().handle(job_ids)
    jobs = [bench.ledger.get(job_id) for job_id in job_ids]
    assert [job.state.value for job in jobs] == ["done", "failed", "done", "done", "done", "failed"]
    assert [job.signature for job in jobs[:1] + jobs[2:3]] == [SIGNATURES[1], SIGNATURES[3]]
    assert all(job.reason for job in jobs if job.state is JobState.FAILED)
    assert [job.error for job in jobs] == ["", "UnsupportedFormat", "", "", "", ""]
    assert jobs[0].seq is not None
    assert bench.stored() == {1: SIGNATURES[1], 3: SIGNATURES[3]}
    assert bench.payloads() == []
    assert bench.ledger.depth().payload_bytes == 0


def test_a_chunk_is_one_transaction(bench: Bench) -> None:
    commits: list[int] = []

    class Counting:
        def apply(self, writes: list[Write]) -> Any:
            commits.append(len(writes))
            return bench.store.apply(writes)

    bench.handler(open_store=Counting).handle(bench.accept_images(32))
    assert commits == [32]


class Dying:
    """Lets through so many calls, then ends the process, before or after the call takes effect."""

    def __init__(self, calls: int, *, is_after: bool) -> None:
        self._left = calls
        self._is_after = is_after

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left < 0 and not self._is_after:
                raise Killed
            result = function(*arguments, **options)
            if self._left < 0:
                raise Killed
            return result

        return call

    def object(self, target: Any, *names: str) -> Any:
        methods = {name: staticmethod(self.wrap(getattr(target, name))) for name in names}
        return type("Dying", (), methods)()


@pytest.mark.parametrize("is_after", [False, True])
def test_killed_at_any_step_nothing_is_lost_and_nothing_stays(
    make_bench: Callable[[], Bench], is_after: bool
) -> None:
    steps = 0
    for steps in itertools.count():
        bench = make_bench()
        job_ids = bench.accept(
            Submission.of_image(1, IMAGES[1]),
            Submission.of_image(2, BROKEN),
            Submission.of_delete(3),
            Submission.of_signature(4, SIGNATURES[4]),
            Submission.of_image(5, IMAGES[5]),
        )
        dying = Dying(steps, is_after=is_after)
        handler = bench.handler(
            ledger=dying.object(bench.work, "start", "begin", "hashed", "finish", "release"),
            open_store=lambda bench=bench, dying=dying: dying.object(bench.store, "apply"),
            hash_image=dying.wrap(from_image_bytes),
        )
        try:
            handler.handle(job_ids)
        except Killed:
            was_killed = True
        else:
            was_killed = False
        bench.handler().handle(job_ids)  # delivered again
        assert [state.value for state in bench.states(job_ids)] == ["done", "failed", "done", "done", "done"]
        assert bench.stored() == {1: SIGNATURES[1], 4: SIGNATURES[4], 5: SIGNATURES[5]}
        assert bench.payloads() == []
        depth = bench.ledger.depth()
        assert (depth.queued, depth.running, depth.payload_bytes) == (0, 0, 0)
        if not was_killed:
            break
    assert steps > 10  # it was killed at every one of them


def test_delivered_twice_nothing_is_done_again(bench: Bench) -> None:
    job_ids = bench.accept_images(3)
    bench.handler().handle(job_ids)
    head = bench.store.head_seq()

    def never(_: bytes) -> Signature:
        raise AssertionError("decoded again")

    bench.handler(hash_image=never).handle(job_ids)
    assert bench.store.head_seq() == head


def test_a_late_add_does_not_undo_a_later_delete(bench: Bench) -> None:
    [job_id] = bench.accept(Submission.of_image(1, IMAGES[1]))
    bench.store.apply([Write(1, bench.ledger.next_revision(), None)])
    bench.handler().handle([job_id])
    job = bench.ledger.get(job_id)
    assert job.state is JobState.DONE
    assert job.seq == bench.store.head_seq()
    assert bench.stored() == {}


class Flaky:
    """A store that is away for so many calls."""

    def __init__(self, store: SignatureStore, failures: int) -> None:
        self._store = store
        self.left = failures

    def apply(self, writes: list[Write]) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise StoreUnavailable("the database is restarting")
        return self._store.apply(writes)


def test_a_store_that_comes_back_soon_is_waited_for(bench: Bench) -> None:
    job_ids = bench.accept_images(2)
    flaky = Flaky(bench.store, 4)
    bench.handler(open_store=lambda: flaky).handle(job_ids)
    assert bench.states(job_ids) == [JobState.DONE] * 2
    assert bench.pauses == [0.1, 0.2, 0.4, 0.8]


def test_a_store_that_stays_away_costs_time_and_no_job(bench: Bench) -> None:
    job_ids = bench.accept(
        *(Submission.of_image(number, IMAGES[number]) for number in range(2)), Submission.of_image(2, BROKEN)
    )
    away = bench.handler(open_store=lambda: Flaky(bench.store, 10**9))
    for deferrals in range(3):
        away.handle(job_ids)
        assert [state.value for state in bench.states(job_ids)] == ["queued", "queued", "failed"]
        assert [job.deferrals for job in bench.work.start(job_ids)] == [deferrals + 1] * 2
        assert [job.attempts for job in bench.work.start(job_ids)] == [0, 0]  # nobody is to blame
    assert max(bench.pauses) <= 3.0
    bench.handler().handle(job_ids)
    assert bench.stored() == {0: SIGNATURES[0], 1: SIGNATURES[1]}


def test_jobs_that_were_put_back_come_back_by_themselves(bench: Bench) -> None:
    job_ids = bench.accept_images(2)
    bench.handler(open_store=lambda: Flaky(bench.store, 10**9)).handle(job_ids)
    found: list[str] = []
    wait_until(lambda: found.extend(bench.work.sweep("w")) or found, 10)
    assert sorted(found) == sorted(job_ids)


def test_a_ledger_that_stays_away_is_told_to_celery(bench: Bench) -> None:
    job_ids = bench.accept_images(1)

    class Away:
        def start(self, _: list[str]) -> Any:
            raise QueueUnavailable("gone")

    with pytest.raises(QueueUnavailable):
        bench.handler(ledger=Away()).handle(job_ids)


def killer_of(image: bytes) -> Callable[[bytes], Signature]:
    def hash_image(data: bytes) -> Signature:
        if data == image:
            raise Killed
        return from_image_bytes(data)

    return hash_image


def test_a_payload_that_kills_is_set_aside_and_its_mates_go_on(bench: Bench) -> None:
    job_ids = bench.accept_images(6)
    deaths = 0
    for _ in range(10):
        try:
            bench.handler(hash_image=killer_of(IMAGES[2])).handle(job_ids)
        except Killed:
            deaths += 1
            if deaths == 2:  # its mates needed one redelivery, not three
                assert bench.states(job_ids) == [
                    JobState.RUNNING if number == 2 else JobState.DONE for number in range(6)
                ]
        else:
            break
    assert deaths == 3
    poisoned = bench.ledger.get(job_ids[2])
    assert poisoned.state is JobState.FAILED
    assert poisoned.reason == "set aside: the process that decoded it ended 3 times"
    assert sorted(bench.stored()) == [0, 1, 3, 4, 5]
    assert bench.payloads() == []


def test_two_payloads_that_kill_are_told_apart(bench: Bench) -> None:
    job_ids = bench.accept_images(5)

    def hash_image(data: bytes) -> Signature:
        if data in (IMAGES[1], IMAGES[3]):
            raise Killed
        return from_image_bytes(data)

    for _ in range(20):
        try:
            bench.handler(hash_image=hash_image).handle(job_ids)
        except Killed:
            continue
        break
    states = [state.value for state in bench.states(job_ids)]
    assert states == ["done", "failed", "done", "failed", "done"]


def test_a_fault_in_the_decoder_is_tried_again_and_then_set_aside(bench: Bench) -> None:
    job_ids = bench.accept_images(2)

    def hash_image(data: bytes) -> Signature:
        if data == IMAGES[0]:
            raise MemoryError
        return from_image_bytes(data)

    for tries in range(1, 4):
        bench.handler(hash_image=hash_image).handle(job_ids)
        assert bench.ledger.get(job_ids[0]).attempts == tries
        assert [state.value for state in bench.states(job_ids)] == ["queued", "done"]
    bench.handler(hash_image=hash_image).handle(job_ids)
    assert bench.ledger.get(job_ids[0]).state is JobState.FAILED


def test_slow_images_do_not_add_up_to_the_time_limit(bench: Bench) -> None:
    job_ids = bench.accept_images(6)

    def slow(data: bytes) -> Signature:
        bench.seconds += 4
        return from_image_bytes(data)

    bench.handler(hash_image=slow).handle(job_ids)
    assert [state.value for state in bench.states(job_ids)] == ["done"] * 3 + ["queued"] * 3
    assert sorted(bench.work.sweep("w")) == sorted(job_ids[3:])
    bench.handler(hash_image=slow).handle(job_ids[3:])
    assert bench.states(job_ids) == [JobState.DONE] * 6
