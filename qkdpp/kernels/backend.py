"""Which tier computes: C where it was built, else Numba where it can be imported, else NumPy.

``QKDPP_BACKEND=c``, ``numba`` or ``numpy`` forces one, ``QKDPP_ISA`` an
instruction set of C; asking for what is not there, or for an instruction set of
another tier, is an error, never a silent downgrade. A tier that is missing is said in one warning line (the
``qkdpp.kernels`` logger, on standard error unless configured otherwise).
Nothing is imported before the first question.

Some kernels have no C form: :func:`loops` says what computes those.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Final, Literal, TypeAlias

from qkdpp.core.errors import ConfigError
from qkdpp.kernels import compiled

Backend: TypeAlias = Literal["c", "numba", "numpy"]
Loops: TypeAlias = Literal["numba", "numpy"]
BACKENDS: Final[tuple[Backend, ...]] = ("c", "numba", "numpy")
VARIABLE: Final = "QKDPP_BACKEND"
REMEDIES: Final = {
    "c": "the compiled kernels cannot be loaded ({}); install qkdpp where a C compiler is",
    "numba": "Numba cannot be imported ({}); install it",
}

_log = logging.getLogger("qkdpp.kernels")
_state: dict[str, Backend] = {}
_loops: dict[str, Loops] = {}


def _numba_fault() -> str | None:
    """Why Numba cannot be used, or None."""
    try:
        importlib.import_module("numba")
    except Exception as error:  # Numba refuses a NumPy it does not know in several ways
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def _fault(name: Backend) -> str | None:
    """Why a tier cannot be used, or None."""
    if name == "c":
        return compiled.fault()
    return _numba_fault() if name == "numba" else None


def _best_loops() -> Loops:
    fault = _numba_fault()
    if fault is not None:
        _log.warning("qkdpp runs without Numba, slowly (%s)", fault)
    return "numpy" if fault is not None else "numba"


def _best() -> Backend:
    fault = compiled.fault()
    if fault is None:
        compiled.start()
        return "c"
    if os.environ.get(compiled.VARIABLE) is not None:
        raise ConfigError(f"{compiled.VARIABLE} is set, but {REMEDIES['c'].format(fault)} or unset {compiled.VARIABLE}")
    _log.warning("qkdpp runs without its compiled kernels, slower (%s)", fault)
    return _best_loops()


def backend() -> Backend:
    """The tier in use, decided at the first call.

    Raises:
        ConfigError: ``QKDPP_BACKEND`` or ``QKDPP_ISA`` asks for what is not there.
    """
    if "backend" not in _state:
        wanted = os.environ.get(VARIABLE)
        if wanted in BACKENDS and wanted != "c" and os.environ.get(compiled.VARIABLE):
            raise ConfigError(f"{compiled.VARIABLE} is set, but {VARIABLE}={wanted} has no instruction sets; unset one")
        if wanted is not None:
            return use_backend(wanted)
        _state["backend"] = _best()
    return _state["backend"]


def use_backend(name: str) -> Backend:
    """Makes ``name`` the tier in use; raises ConfigError if it is unknown or not there."""
    if name not in BACKENDS:
        raise ConfigError(f"{VARIABLE}: unknown backend {name!r}; use one of {', '.join(BACKENDS)}")
    fault = _fault(name)
    if fault is not None:
        raise ConfigError(f"{VARIABLE}={name}, but {REMEDIES[name].format(fault)} or unset {VARIABLE}")
    if name == "c":
        compiled.start()
    _state["backend"] = name
    return name


def loops() -> Loops:
    """The tier of a kernel without a C form: the one in use, or with C the best of the others."""
    chosen = backend()
    if chosen != "c":
        return chosen
    if "beside c" not in _loops:
        _loops["beside c"] = _best_loops()
    return _loops["beside c"]


def available() -> tuple[Backend, ...]:
    """The tiers that can be used here."""
    return tuple(name for name in BACKENDS if _fault(name) is None)


def isa() -> str | None:
    """The instruction set of the compiled kernels, None where another tier is in use."""
    return compiled.isa() if backend() == "c" else None
