"""Warns of environment variables that look like options but are not: mostly misspelt ones."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping

from iqdb_core.settings import OF_OTHERS, PREFIX, Settings

_log = logging.getLogger(__name__)


def warn_of_unknown(environment: Mapping[str, str]) -> None:
    """Warn of variables that look like options but are not."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known | OF_OTHERS:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            _log.warning("%s is not a setting%s", name, hint, extra={"action": "unknown_setting"})
