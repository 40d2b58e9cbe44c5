"""What happens to a chunk of jobs, on a real Redis and store: killed at every step, retried, set aside."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from iqdb_core.errors import OutOfMemory, QueueUnavailable, StoreUnavailable
from iqdb_core.jobs import Claim, Idling, JobState, Lane, RedisPort, Submission, WorkLedger
from iqdb_core.model import Write, WriteOutcome
from iqdb_core.signature import ReadImage, read_image
from iqdb_core.store import SignatureStore, open_store
from tests.fixtures.pictures import encoded
from tests.fixtures.waiting import wait_until
from tests.fixtures.worker_site import IMAGES, SIGNATURES, Killed, Site
from worker.handlers import TaskLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

BROKEN = b"this is no image"


@pytest.fixture
def make_site(redis_port: RedisPort, tmp_path: Path) -> Iterator[Callable[[], Site]]:
    stores: list[SignatureStore] = []

    def make() -> Site:
        stores.append(open_store(f"{tmp_path}/{len(stores)}.sqlite"))
        return Site(redis_port, stores[-1], f"{tmp_path.name}-{len(stores)}:")

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    return make_site()


def test_a_chunk_is_decoded_committed_and_finished(site: Site) -> None:
    job_ids = site.accept(
        Submission.of_image(1, IMAGES[1]),
        Submission.of_image(2, BROKEN),
        Submission.of_signature(3, SIGNATURES[3]),
        Submission.of_image(4, IMAGES[4]),
        Submission.of_delete(4),
        Submission.of_image(5, b""),
    )
    assert site.handler().handle() == 0
    jobs = [site.ledger.get(job_id) for job_id in job_ids]
    assert [job.state.value for job in jobs] == ["done", "failed", "done", "done", "done", "failed"]
    assert [job.signature for job in jobs[:1] + jobs[2:3]] == [SIGNATURES[1], SIGNATURES[3]]
    assert all(job.reason for job in jobs if job.state is JobState.FAILED)
    assert [job.error for job in jobs] == ["", "UnsupportedFormat", "", "", "", "UnsupportedFormat"]
    assert jobs[5].reason == "the file is empty"
    assert jobs[0].seq is not None
    assert site.stored() == {1: SIGNATURES[1], 3: SIGNATURES[3]}
    assert site.payloads() == []
    assert site.ledger.depth().payload_bytes == 0


def test_an_image_whose_bytes_the_queue_lost_may_be_sent_again(site: Site) -> None:
    [job_id] = site.accept_images(1)
    site.port.read([("DEL", f"{site.prefix}payload:{job_id}")])
    site.handler().handle()
    job = site.ledger.get(job_id)
    assert (job.reason, job.error) == ("the queue has lost its bytes; send it again", "JobLost")


def _counted(site: Site, commits: list[int]) -> Callable[[Sequence[Write]], list[WriteOutcome]]:
    """Return what commits writes, and notes how many."""

    def apply(writes: Sequence[Write]) -> list[WriteOutcome]:
        commits.append(len(writes))
        return site.store.apply(writes)

    return apply


def test_a_chunk_is_one_transaction(site: Site) -> None:
    commits: list[int] = []
    site.accept_images(32)
    site.handler(apply=_counted(site, commits)).handle()
    assert commits == [32]


def test_single_adds_that_pile_up_share_transactions(site: Site) -> None:
    """Each is accepted for itself; what counts is what waits when a worker claims."""
    commits: list[int] = []
    for number in range(100):
        site.accept(Submission.of_image(number, IMAGES[number % 40], lane=Lane.INTERACTIVE))
    site.handler(apply=_counted(site, commits)).handle()
    assert commits == [32, 32, 32, 4]


def test_what_is_known_of_an_image_is_stored_and_told(site: Site) -> None:
    half = encoded(Image.effect_noise((64, 64), 64), "JPEG")
    job_ids = site.accept(
        Submission.of_image(1, half[: len(half) // 2], source="https://example.org/a"),
        Submission.of_image(2, half),
    )
    site.handler().handle()
    assert [site.ledger.get(job_id).is_damaged for job_id in job_ids] == [True, False]
    assert site.store.sources_of([1, 2]) == {1: "https://example.org/a"}


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
    make_site: Callable[[], Site], is_after: bool
) -> None:
    steps = 0
    for steps in itertools.count():
        site = make_site()
        job_ids = site.accept(
            Submission.of_image(1, IMAGES[1]),
            Submission.of_image(2, BROKEN),
            Submission.of_delete(3),
            Submission.of_signature(4, SIGNATURES[4]),
            Submission.of_image(5, IMAGES[5]),
        )
        dying = Dying(steps, is_after=is_after)
        work = site.new_claimant()
        handler = site.handler(
            ledger=dying.object(work, "claim", "finish", "finish_and_claim"),
            apply=dying.wrap(site.store.apply),
            read_image=dying.wrap(read_image),
        )
        site.work = work
        try:
            handler.handle()
        except Killed:
            was_killed = True
            site.bury()
        else:
            was_killed = False
        assert site.handler().handle() == 0
        assert [state.value for state in site.states(job_ids)] == ["done", "failed", "done", "done", "done"]
        assert site.stored() == {1: SIGNATURES[1], 4: SIGNATURES[4], 5: SIGNATURES[5]}
        assert site.payloads() == []
        depth = site.ledger.depth()
        assert (depth.queued, depth.running, depth.payload_bytes) == (0, 0, 0)
        if not was_killed:
            break
    assert steps == 6  # claim, three images, the commit, the end: it was killed at every one of them


def test_with_nothing_to_do_nothing_is_done(site: Site) -> None:
    site.accept_images(3)
    site.handler().handle()
    head = site.store.head_seq()

    def never(_: bytes) -> ReadImage:
        raise AssertionError("decoded again")

    assert site.handler(read_image=never).handle() == 0
    assert site.store.head_seq() == head


def test_a_late_add_does_not_undo_a_later_delete(site: Site) -> None:
    [job_id] = site.accept(Submission.of_image(1, IMAGES[1]))
    site.store.apply([Write(1, site.ledger.get(job_id).revision + 1, None)])
    site.handler().handle()
    job = site.ledger.get(job_id)
    assert job.state is JobState.DONE
    assert job.seq == site.store.head_seq()
    assert site.stored() == {}


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


def test_a_store_that_comes_back_soon_is_waited_for(site: Site) -> None:
    job_ids = site.accept_images(2)
    flaky = Flaky(site.store, 4)
    site.handler(apply=flaky.apply).handle()
    assert site.states(job_ids) == [JobState.DONE] * 2
    assert site.pauses == [0.1, 0.2, 0.4, 0.8]


def test_a_store_that_stays_away_costs_time_and_no_job(site: Site) -> None:
    job_ids = site.accept(
        *(Submission.of_image(number, IMAGES[number]) for number in range(2)), Submission.of_image(2, BROKEN)
    )
    work = site.new_claimant()
    for deferrals in range(3):
        site.handler(ledger=work, apply=Flaky(site.store, 10**9).apply).handle()
        assert [state.value for state in site.states(job_ids)] == ["queued", "queued", "failed"]
        assert site.ledger.get(job_ids[0]).attempts == 0  # nobody is to blame
        assert work.claim().jobs == []  # it is left in peace for a while
        site.make_due()
        assert [job.deferrals for job in work.claim().jobs] == [deferrals + 1] * 2
    assert max(site.pauses) <= 3.0
    site.handler(ledger=work).handle()
    assert site.stored() == {0: SIGNATURES[0], 1: SIGNATURES[1]}


def test_jobs_that_were_put_back_come_back_by_themselves(site: Site) -> None:
    job_ids = site.accept_images(2)
    site.handler(apply=Flaky(site.store, 10**9).apply).handle()
    assert site.ledger.lanes()["later"][0] == 2
    wait_until(lambda: site.work.sweep("w") == 1, 60)  # somebody is told
    site.handler().handle()
    assert site.states(job_ids) == [JobState.DONE] * 2


def test_a_task_goes_on_when_more_comes_while_it_listens(site: Site) -> None:
    """One image after the other, each accepted when the one before is stored: one round takes them all."""
    left = list(range(1, 5))

    class Fed(WorkLedger):
        def wait(self, claim: Claim, idling: Idling) -> bool:
            if left:
                number = left.pop(0)
                site.accept(Submission.of_image(number, IMAGES[number]))
            return super().wait(claim, idling)

    site.accept_images(1)
    limits = TaskLimits(round_s=60, idling=Idling(linger_s=1, gather_s=0.01))
    handler = site.handler(ledger=Fed(site.port, keys=site.keys), limits=limits)
    assert handler.handle() == 0
    assert sorted(site.stored()) == [0, 1, 2, 3, 4]
    assert site.ledger.accept_all([Submission.of_delete(1)]).missing_messages == 1  # nobody listens any more


def test_a_round_ends_in_time_however_much_comes(site: Site) -> None:
    def slow(writes: Sequence[Write]) -> list[WriteOutcome]:
        site.seconds += 3  # all the time of a round
        site.accept(Submission.of_image(9, IMAGES[9]))
        return site.store.apply(writes)

    site.accept_images(1)
    limits = TaskLimits(round_s=2, idling=Idling(linger_s=5, gather_s=0.01))
    handler = site.handler(apply=slow, limits=limits)
    handler.handle()
    assert sorted(site.stored()) == [0]
    assert site.ledger.depth().queued == 1


def test_a_ledger_that_stays_away_is_told_to_celery(site: Site) -> None:
    class Away:
        def claim(self, *_: Any) -> Any:
            raise QueueUnavailable("gone")

    with pytest.raises(QueueUnavailable):
        site.handler(ledger=Away()).handle()


def test_a_store_that_cannot_be_opened_leaves_jobs_unclaimed(site: Site) -> None:
    job_ids = site.accept_images(1)

    def away() -> str:
        raise StoreUnavailable("the database is starting")

    with pytest.raises(StoreUnavailable):
        site.handler(ledger=WorkLedger(site.port, keys=site.keys, store_id=away)).handle()
    assert site.states(job_ids) == [JobState.QUEUED]


def killer_of(image: bytes) -> Callable[[bytes], ReadImage]:
    def read(data: bytes) -> ReadImage:
        if data == image:
            raise Killed
        return read_image(data)

    return read


def work_and_bury(site: Site, read: Callable[[bytes], ReadImage]) -> int:
    """Let processes work until nothing is left, one after the other; return how many died."""
    for deaths in range(20):
        try:
            site.handler(read_image=read).handle()
        except Killed:
            site.bury()
        else:
            return deaths
    raise AssertionError("they die for ever")


def test_a_payload_that_kills_is_set_aside_and_its_mates_go_on(site: Site) -> None:
    job_ids = site.accept_images(6)
    with pytest.raises(Killed):
        site.handler(read_image=killer_of(IMAGES[2])).handle()
    site.bury()
    with pytest.raises(Killed):  # its mates needed one claim more, not three
        site.handler(read_image=killer_of(IMAGES[2])).handle()
    assert [state.value for state in site.states(job_ids[:3])] == ["done", "done", "running"]
    site.bury()
    assert work_and_bury(site, killer_of(IMAGES[2])) == 1
    poisoned = site.ledger.get(job_ids[2])
    assert poisoned.state is JobState.FAILED
    assert poisoned.reason == "set aside: each of 3 tries ended its process, or could not read or store it"
    assert sorted(site.stored()) == [0, 1, 3, 4, 5]
    assert site.payloads() == []


def test_two_payloads_that_kill_are_told_apart(site: Site) -> None:
    job_ids = site.accept_images(5)

    def read(data: bytes) -> ReadImage:
        if data in (IMAGES[1], IMAGES[3]):
            raise Killed
        return read_image(data)

    assert work_and_bury(site, read) == 5
    states = [state.value for state in site.states(job_ids)]
    assert states == ["done", "failed", "done", "failed", "done"]


@pytest.mark.parametrize("fault", [ValueError("a bug"), OutOfMemory("not enough now")], ids=["bug", "memory"])
def test_a_fault_in_the_decoder_is_tried_again_and_then_set_aside(site: Site, fault: Exception) -> None:
    job_ids = site.accept_images(2)

    def read(data: bytes) -> ReadImage:
        if data == IMAGES[0]:
            raise fault
        return read_image(data)

    for tries in range(1, 4):
        site.handler(read_image=read).handle()
        assert site.ledger.get(job_ids[0]).attempts == tries
        assert [state.value for state in site.states(job_ids)] == ["queued", "done"]
        site.make_due()
    site.handler(read_image=read).handle()
    assert site.ledger.get(job_ids[0]).state is JobState.FAILED


def test_slow_images_do_not_add_up_to_the_time_limit(site: Site) -> None:
    job_ids = site.accept_images(6)
    claims: list[int] = []

    def slow(data: bytes) -> ReadImage:
        site.seconds += 4
        return read_image(data)

    handler = site.handler(read_image=slow)
    assert handler.handle() == 3
    assert [state.value for state in site.states(job_ids)] == ["done"] * 3 + ["queued"] * 3
    assert site.ledger.get(job_ids[3]).attempts == 0
    while handler.handle():  # it has learned the pace, and claims no more than it can do
        claims.append(site.states(job_ids).count(JobState.DONE))
    assert claims == [4, 5]
    assert site.states(job_ids) == [JobState.DONE] * 6


def test_quick_images_are_claimed_many_at_once_however_many_there_were(site: Site) -> None:
    """The pace is that of one image: not of a claim, and not the time of day."""
    site.seconds = 1000.0
    commits: list[int] = []

    def quick(data: bytes) -> ReadImage:
        site.seconds += 0.01
        return read_image(data)

    site.accept_images(40)
    site.accept_images(24)
    site.handler(read_image=quick, apply=_counted(site, commits)).handle()
    assert commits == [32, 32]


def test_a_round_ends_while_jobs_go_on_waiting(site: Site) -> None:
    """So that Celery sees tasks end, and a worker that is told to stop stops."""
    site.accept_images(40)

    def slow(data: bytes) -> ReadImage:
        site.seconds += 0.1
        return read_image(data)

    assert site.handler(read_image=slow).handle() == 8
    assert site.handler(read_image=slow).handle() == 0
