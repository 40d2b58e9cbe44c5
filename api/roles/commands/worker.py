"""`iqdb worker`: starts the worker in the place of this process, with its options in the environment.

The worker is a room of its own, which `api` does not import.
"""

from __future__ import annotations

import os
import sys

import typer

from api.roles.options import with_settings
from iqdb_core.settings import PREFIX, Settings, fields_of

app = typer.Typer()


@app.command()
@with_settings("worker")
def worker(settings: Settings) -> None:
    """Run a Celery worker that hashes and stores images."""
    given = {f"{PREFIX}{name.upper()}": str(getattr(settings, name)) for name in fields_of("worker")}
    os.execve(sys.executable, [sys.executable, "-m", "worker"], os.environ | given)  # noqa: S606 - our own module
