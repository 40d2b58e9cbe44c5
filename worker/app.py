"""The Celery application of a worker: configuration and nothing else.

Every setting that differs from Celery's default says why. Built by `worker.__main__` and by tests; importing
it has no effect.
"""

from __future__ import annotations

from celery import Celery

from iqdb_core.jobs.contract import QUEUE, transport_options
from worker.lost_acks import LinkWatch, request_class
from worker.settings import WorkerSettings
from worker.sweep import sweep_step
from worker.tasks import Bench, open_ledger, register


def create_app(settings: WorkerSettings) -> Celery:
    """Return the application of one worker; connects to nothing."""
    app = Celery("iqdb", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        broker_transport_options=transport_options(settings.visibility_timeout_s),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # Redis comes back some day; a worker that gave up would not
        # JSON only, and no results: the ledger says what became of a job.
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        # A message is gone only when its jobs are final or put back. A killed child's message returns at
        # once, a killed worker's after the visibility timeout. An unexpected error drops the message; the
        # sweep sends the jobs again.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=False,
        task_time_limit=settings.task_time_limit_s,
        # No soft limit: its exception cannot interrupt a decoder, but could strike in the middle of a commit.
        task_soft_time_limit=None,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # idempotent and short: let them finish
        worker_concurrency=settings.worker_processes,
        worker_max_memory_per_child=settings.worker_max_memory_mib * 1024,
        worker_lost_wait=1.0,  # seconds until a killed child's message is returned; 10 buy nothing here
        worker_proc_alive_timeout=30.0,  # a child may need more than 4 seconds on a loaded machine
        worker_soft_shutdown_timeout=float(settings.task_time_limit_s),
        # Remote control and events need pub/sub and keys of their own, and have kept workers from
        # reconnecting.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    watch = LinkWatch()
    register(app, Bench(settings).handler, request_class(watch))
    app.steps["consumer"].add(sweep_step(lambda: open_ledger(settings), watch, settings.sweep_s))
    return app
