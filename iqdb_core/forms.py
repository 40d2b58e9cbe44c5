"""Functions in two forms: plain, which works at once, and compiled, which is fast.

Both forms return the same results. By default the compiled form is used; it is compiled, or loaded from disk,
at its first call. A server starts with the plain forms and switches when the compiled ones are ready.
Importing this, or a file that declares such a function, loads neither form, and no compiler. Does not know
what is computed.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_forms: Final[list[_Form]] = []
_here: Final = threading.local()


class _Form:
    """One function in two forms; called like either of them."""

    __slots__ = ("_call", "_plain", "compiled")

    def __init__(self, compiled: str, plain: str | None) -> None:
        self.compiled = compiled
        self._plain = plain
        self._call = self._resolve_and_call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the form that is in use."""
        return self._call(*args, **kwargs)

    def use_plain(self) -> None:
        """Call the plain form from now on, if there is one, except inside `compiled_here`."""
        if self._plain is None:
            self._call = self._resolve_and_call
            return
        plain = _found(self._plain)

        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(_here, "is_compiled", False):
                return _found(self.compiled)(*args, **kwargs)
            return plain(*args, **kwargs)

        self._call = call

    def use_compiled(self) -> None:
        """Call the compiled form from now on; calls under way finish in the old form."""
        self._call = _found(self.compiled)

    def use_preferred(self) -> None:
        """Call the compiled form from now on, loading it at its first call."""
        self._call = self._resolve_and_call

    def _resolve_and_call(self, *args: Any, **kwargs: Any) -> Any:
        self.use_compiled()
        return self._call(*args, **kwargs)


def two_forms(*, compiled: str, plain: str | None) -> Any:
    """Declare a function in two forms.

    Parameters
    ----------
    compiled, plain : str
        "module:name" of each form. They take the same arguments and agree exactly. Without a plain form, the
        compiled one is always used.

    Returns
    -------
    callable
    """
    form = _Form(compiled, plain)
    _forms.append(form)
    return form


def use_plain(chosen: Callable[[str], bool] = lambda _: True) -> None:
    """Use the plain forms from now on, in this process.

    Parameters
    ----------
    chosen : callable
        Gets "module:name" of a compiled form, and returns whether to use the plain form instead.

    Notes
    -----
    Affects functions declared so far, so import the files that declare them first.
    """
    for form in _forms:
        if chosen(form.compiled):
            form.use_plain()


def use_compiled(chosen: Callable[[str], bool] = lambda _: True) -> None:
    """Use the compiled forms from now on, in this process; see `use_plain`."""
    for form in _forms:
        if chosen(form.compiled):
            form.use_compiled()


def use_preferred(chosen: Callable[[str], bool] = lambda _: True) -> None:
    """Return to the default forms; see `use_plain`."""
    for form in _forms:
        if chosen(form.compiled):
            form.use_preferred()


@contextmanager
def compiled_here() -> Iterator[None]:
    """Use the compiled forms in this thread until the block ends, whatever other threads use."""
    _here.is_compiled = True
    try:
        yield
    finally:
        _here.is_compiled = False


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
