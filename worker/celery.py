"""The Celery application of a worker: configuration and nothing else.

`app` is for Celery's own commands (`celery -A worker.celery worker|inspect|control|events`); its settings
come from the environment when they are first needed, so importing this module has no effect. `iqdb worker`
and tests make theirs with `create_app`. Every setting that differs from Celery's default says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from celery import Celery

from iqdb_core.errors import WrongUsage
from iqdb_core.jobs.keys import QUEUE, Keys
from iqdb_core.jobs.messages import transport_options
from iqdb_core.settings import Settings
from worker import transport
from worker.lost_acks import AcknowledgementWatch
from worker.process_resources import ProcessResources, open_ledger
from worker.startup import end, prepare_at_start
from worker.store_id import StoreId
from worker.sweep import Sweeper, sweep_step
from worker.tasks import register, send_messages
from worker.watched_request import request_class

REMOTE_CONTROL: Final = "IQDB_REMOTE_CONTROL"


def create_app(read_settings: Callable[[], Settings]) -> Celery:
    """Return the application of one worker; connects to nothing and reads no setting yet."""
    settings = cache(read_settings)
    transport.use()
    app = Celery("iqdb", set_as_current=False)
    app.add_defaults(lambda: configuration(settings()))
    resources = ProcessResources(settings)
    watch = AcknowledgementWatch()
    store_id = StoreId(lambda: settings().database_url)
    sweeper = Sweeper(
        lambda: open_ledger(settings(), store_id=store_id),
        lambda count: send_messages(app, count),
    )
    register(app, resources.handler, request_class(watch, resources.claimant_of, sweeper.forfeit))
    app.steps["consumer"].add(sweep_step(sweeper, watch, lambda: settings().sweep_s))
    prepare_at_start(app, settings, store_id.learn)
    return app


def configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration."""
    return {
        "broker_url": settings.redis_url,
        "task_default_queue": QUEUE,
        "broker_transport_options": transport_options(
            Keys(settings.redis_prefix), settings.visibility_timeout_s, settings.redis_sentinel_master
        ),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a worker that gave up would not come back with Redis
        # JSON only, and no results: the ledger says what became of a job.
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        # A message is gone only when its task has ended. A killed child's message returns at once, a killed
        # worker's after the visibility timeout. An unexpected error drops it; the sweep sends another.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": False,
        "task_time_limit": settings.task_time_limit_s,
        # No soft limit: its exception cannot interrupt a decoder, but could strike in the middle of a commit.
        "task_soft_time_limit": None,
        "worker_prefetch_multiplier": 1,
        # Tasks are idempotent and short: when the connection is lost, let them finish.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_concurrency": settings.worker_processes,
        "worker_max_memory_per_child": settings.worker_max_memory_mib * 1024,
        "worker_lost_wait": 1.0,  # seconds until a killed child's message is returned; the default is 10
        "worker_proc_alive_timeout": 30.0,  # a child may need more than 4 seconds on a loaded machine
        "worker_soft_shutdown_timeout": float(settings.task_time_limit_s),
        # For Celery's own tools. A task takes seconds and has many images, so events cost next to nothing.
        "worker_enable_remote_control": settings.remote_control,
        "worker_send_task_events": settings.remote_control,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def _from_environment() -> Settings:
    """Read the settings; who starts a worker by Celery's own command expects Celery's tools to reach it."""
    given = {} if REMOTE_CONTROL in os.environ else {"remote_control": True}
    try:
        return Settings.read(**given)
    except WrongUsage as error:
        end(error)


app = create_app(_from_environment)
