"""The table of recording formats: one row each, readers and writers imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qkdpp.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One kind of recording.

    Attributes:
        name: short name, as in ``--format``.
        title: instrument or container, for people.
        reader: ``module:function`` in ``qkdpp.sources``, a function ``Request -> Opened``.
        writer: likewise ``(path, chunks, metadata) -> tags written``, if there is one.
        options: names of the options the reader understands.
        tick: ``header`` (the file states it), ``fixed`` (the format fixes it) or ``declared`` (the user must).
        extensions: file name endings under which the format is written.
        written_tick_as: the tick to which times are rounded on writing; None keeps native ticks.
        keeps_lost: whether lost intervals are written.
    """

    name: str
    title: str
    reader: str
    writer: str | None = None
    options: tuple[str, ...] = ()
    tick: Literal["header", "fixed", "declared"] = "header"
    extensions: tuple[str, ...] = ()
    written_tick_as: int | None = None
    keeps_lost: bool = False


_ROWS = (
    Format(
        name="ptu",
        title="PicoQuant unified TTTR",
        reader="picoquant:open_ptu",
        writer="ptu_writer:write_ptu",
        extensions=(".ptu",),
    ),
    Format(name="ht2", title="PicoQuant HydraHarp T2", reader="picoquant_legacy:open_hydraharp"),
    Format(name="ht3", title="PicoQuant HydraHarp T3", reader="picoquant_legacy:open_hydraharp"),
    Format(name="pt2", title="PicoQuant PicoHarp T2", reader="picoquant_legacy:open_picoharp"),
    Format(name="pt3", title="PicoQuant PicoHarp T3", reader="picoquant_legacy:open_picoharp"),
    Format(
        name="qutag",
        title="quTAG, quTAU, ID800 binary",
        reader="qutag:open_qutag",
        writer="qutag:write_qutag",
        tick="declared",
        extensions=(".qutag",),
    ),
    Format(name="qutag-raw", title="quTAG raw", reader="qutag:open_qutag_raw", tick="declared"),
    Format(
        name="qutag-compressed",
        title="quTAG compressed",
        reader="qutag:open_qutag_compressed",
        options=("channel_bits",),
        tick="declared",
    ),
    Format(name="qutag-text", title="quTAG text", reader="qutag:open_qutag_text", tick="declared"),
    Format(
        name="id900-bin",
        title="ID900 binary, one file per input",
        reader="id900:open_bin",
        options=("index", "ref_period_ps", "channel", "byte_order"),
        tick="fixed",
    ),
    Format(
        name="id900-text",
        title="ID900 text, one file per input",
        reader="id900:open_text",
        options=("index", "ref_period_ps", "channel"),
        tick="fixed",
    ),
    Format(name="s15-a0", title="S-Fifteen -a0", reader="sfifteen:open_a0", options=("patterns",), tick="fixed"),
    Format(
        name="s15-a1",
        title="S-Fifteen -a1",
        reader="sfifteen:open_a1",
        writer="sfifteen:write_a1",
        options=("patterns",),
        tick="fixed",
        extensions=(".ts",),
        written_tick_as=3_906_250,
    ),
    Format(name="s15-a1x", title="S-Fifteen -a1 -X", reader="sfifteen:open_a1x", options=("patterns",), tick="fixed"),
    Format(name="s15-a2", title="S-Fifteen -a2", reader="sfifteen:open_a2", options=("patterns",), tick="fixed"),
    Format(name="tdc1", title="S-Fifteen TDC1", reader="sfifteen:open_tdc1", options=("patterns",), tick="fixed"),
    Format(
        name="qcrypto",
        title="qcrypto epoch files, types 1, 3 and 7",
        reader="qcrypto:open_qcrypto",
        options=("patterns",),
    ),
    Format(name="spc", title="Becker & Hickl FIFO", reader="spc:open_spc", options=("nanotime_as", "invert")),
    Format(
        name="swabian-dump",
        title="Swabian Time Tagger dump",
        reader="swabian:open_dump",
        writer="swabian:write_dump",
        tick="fixed",
        extensions=(".dump",),
        written_tick_as=1_000_000,
        keeps_lost=True,
    ),
    Format(name="ttbin", title="Swabian Time Tagger", reader="swabian:open_ttbin", tick="fixed"),
    Format(
        name="csv",
        title="CSV with header line",
        reader="text:open_csv",
        writer="text:write_csv",
        extensions=(".csv",),
    ),
    Format(
        name="text2",
        title="text, two columns of integers",
        reader="text:open_text2",
        options=("columns",),
        tick="declared",
    ),
    Format(
        name="hdf5",
        title="qkdpp HDF5",
        reader="hdf5:open_hdf5",
        writer="hdf5:write_hdf5",
        extensions=(".h5", ".hdf5"),
        keeps_lost=True,
    ),
    Format(
        name="npz",
        title="qkdpp npz",
        reader="npz:open_npz",
        writer="npz:write_npz",
        extensions=(".npz",),
        keeps_lost=True,
    ),
    Format(name="photon-hdf5", title="Photon-HDF5", reader="hdf5:open_photon_hdf5"),
)
FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}


def format_named(name: str) -> Format:
    """The format; InputError for an unknown name."""
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def function_of(entry: str) -> Callable[..., Any]:
    """The reader or writer ``module:function``, its module imported on demand."""
    module, name = entry.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(f"qkdpp.sources.{module}"), name)
    return function


def format_of_extension(suffix: str) -> Format:
    """The format that is written under a file name ending; InputError if there is none."""
    for row in FORMATS.values():
        if row.writer and suffix.lower() in row.extensions:
            return row
    known = ", ".join(f"{row.extensions[0]} ({row.name})" for row in FORMATS.values() if row.writer and row.extensions)
    raise InputError(f"no format is written as {suffix!r}; known are {known}, or name one with --to")
