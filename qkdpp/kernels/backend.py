"""Which tier computes: Numba where it can be imported, NumPy otherwise.

``QKDPP_BACKEND=numba`` or ``numpy`` forces one; asking for what is not there
is an error, never a silent downgrade. Without Numba one warning line is
logged (the ``qkdpp.kernels`` logger, on standard error unless configured
otherwise). Nothing is imported before the first question.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Final, Literal, TypeAlias

from qkdpp.core.errors import ConfigError

Backend: TypeAlias = Literal["numba", "numpy"]
BACKENDS: Final[tuple[Backend, ...]] = ("numba", "numpy")
VARIABLE: Final = "QKDPP_BACKEND"

_log = logging.getLogger("qkdpp.kernels")
_state: dict[str, Backend] = {}


def _numba_fault() -> str | None:
    """Why Numba cannot be used, or None."""
    try:
        importlib.import_module("numba")
    except Exception as error:  # Numba refuses a NumPy it does not know in several ways
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def backend() -> Backend:
    """The tier in use, decided at the first call. Raises ConfigError if ``QKDPP_BACKEND`` asks for an absent one."""
    if "backend" not in _state:
        wanted = os.environ.get(VARIABLE)
        if wanted is not None:
            return use_backend(wanted)
        fault = _numba_fault()
        if fault is not None:
            _log.warning("qkdpp runs without Numba, slowly (%s)", fault)
        _state["backend"] = "numpy" if fault is not None else "numba"
    return _state["backend"]


def use_backend(name: str) -> Backend:
    """Makes ``name`` the tier in use; raises ConfigError if it is unknown or not there."""
    if name not in BACKENDS:
        raise ConfigError(f"{VARIABLE}: unknown backend {name!r}; use one of {', '.join(BACKENDS)}")
    if name == "numba":
        fault = _numba_fault()
        if fault is not None:
            raise ConfigError(
                f"{VARIABLE}=numba, but Numba cannot be imported ({fault}); install it or unset {VARIABLE}"
            )
    _state["backend"] = name
    return _state["backend"]


def available() -> tuple[Backend, ...]:
    """The tiers that can be used here."""
    return BACKENDS if _numba_fault() is None else ("numpy",)
