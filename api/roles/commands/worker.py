"""`iqdb worker`: hands its options to the worker's own process, through the environment.

The worker is a room of its own and no part of the web's: it replaces this process.
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
