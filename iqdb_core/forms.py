"""Functions that exist in two forms: plain, which works at once, and compiled, which is fast.

Answers: which of the two is called now? Both give the same answers. The compiled one is taken unless a
program says otherwise, and is compiled, or loaded from where it was kept, at its first call; a server starts
with the plain ones instead, and goes over when the others are ready. Importing this, or a file that declares
such a function, loads neither form and no compiler. Knows nothing of what is computed.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

_forms: Final[list[_Form]] = []


class _Form:
    """One function in two forms; called like either."""

    __slots__ = ("_call", "_compiled", "_plain")

    def __init__(self, compiled: str, plain: str) -> None:
        self._compiled = compiled
        self._plain = plain
        self._call = self._resolve_and_call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the form that is in use."""
        return self._call(*args, **kwargs)

    def use_plain(self) -> None:
        """Call the plain form from now on."""
        self._call = _found(self._plain)

    def use_compiled(self) -> None:
        """Call the compiled form from now on; calls under way finish as they began."""
        self._call = _found(self._compiled)

    def _resolve_and_call(self, *args: Any, **kwargs: Any) -> Any:
        self.use_compiled()
        return self._call(*args, **kwargs)


def two_forms(*, compiled: str, plain: str) -> Any:
    """Declare a function.

    Parameters
    ----------
    compiled, plain : str
        "module:name" of each form. They take the same arguments and agree exactly.

    Returns
    -------
    callable
    """
    form = _Form(compiled, plain)
    _forms.append(form)
    return form


def use_plain(*, but: str | None = None) -> None:
    """Take the plain forms from now on, in this process.

    Parameters
    ----------
    but : str or None
        Compiled forms whose module begins so are taken nevertheless.

    Notes
    -----
    Of functions that are declared by now: import whoever declares them before.
    """
    for form in _forms:
        if but is None or not form._compiled.startswith(but):  # noqa: SLF001 - of this file
            form.use_plain()


def use_compiled() -> None:
    """Take the compiled forms from now on, in this process."""
    for form in _forms:
        form.use_compiled()


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
