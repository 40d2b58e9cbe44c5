"""How a worker's parent follows one message: which acknowledgements are due, which children died."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from billiard.exceptions import Terminated, WorkerLostError
from celery.worker.request import Request

from worker.lost_acks import AcknowledgementWatch

_DEATHS: Final = (WorkerLostError, Terminated, SystemExit, KeyboardInterrupt)
"""Errors of a task that say that its child has died, or ends with it."""


def request_class(
    watch: AcknowledgementWatch, claimant_of: Callable[[int], str], on_death: Callable[[str], None]
) -> type[Request]:
    """Return the class by which Celery follows one message of the task.

    Parameters
    ----------
    watch : AcknowledgementWatch
        Is told of every acknowledgement.
    claimant_of : callable
        Returns the claimant that a child with this process id is.
    on_death : callable
        Called with a claimant that has died, or is about to be killed at the time limit.
    """

    class WatchedRequest(Request):  # type: ignore[misc]  # celery carries no types
        def __init__(self, message: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(message, *arguments, **options)
            self._generation = watch.generation

        def acknowledge(self) -> None:
            watch.expect(self.message, self._generation)
            super().acknowledge()

        def reject(self, requeue: bool = False) -> None:
            watch.expect(self.message, self._generation)
            super().reject(requeue=requeue)

        def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
            # By its type: the exception itself may be wrapped into another one.
            if issubclass(exc_info.type, _DEATHS):
                self._report_death()
            return super().on_failure(exc_info, *arguments, **options)

        def on_timeout(self, soft: bool, timeout: float) -> None:
            super().on_timeout(soft, timeout)
            if not soft:
                self._report_death()

        def _report_death(self) -> None:
            if self.worker_pid:
                on_death(claimant_of(self.worker_pid))

    return WatchedRequest
