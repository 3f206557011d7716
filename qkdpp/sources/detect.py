"""Which kind of recording a file is: by content first, by extension last.

Headerless binary kinds cannot be told apart safely and are refused with the
names under which they may be declared (``docs/formats/README.md``).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from qkdpp.core.errors import FormatError
from qkdpp.sources.blocks import open_file
from qkdpp.sources.formats import function_of

HEAD_BYTES = 8192
_ENOUGH_TEXT = 64
QCRYPTO_TYPES = (1, 2, 3, 4, 7)
_HEX_LINE = re.compile(rb"[0-9A-Fa-f]+")
_TWO_NUMBERS = re.compile(rb"\d+[ \t]+-?\d+")
"""Channel and tag with white space between: the instruments' own two-column kinds use a comma or a semicolon."""
_CONTROL = bytes(set(range(32)) - set(b"\t\r\n")) + b"\x7f"


def detect_format(path: Path) -> str:
    """The short format name; FormatError if the kind is not readable or has to be declared."""
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise FormatError(f"{path}: the file is empty; declare its format")
    found = _by_magic(path, head) or _by_epoch_name(path, head)
    if found is not None:
        return found
    if _is_text(head):
        return _by_text(path, head)
    if path.suffix.lower() == ".ttbin":
        return "ttbin"
    raise FormatError(
        f"{path}: no known file header. Headerless kinds must be declared: qutag-raw, id900-bin, swabian-dump, s15-a1, "
        "s15-a1x, tdc1 or spc"
    )


def _by_magic(path: Path, head: bytes) -> str | None:
    version = head[16:22].rstrip(b"\0")
    if head.startswith(b"PQTTTR\0\0"):
        return "ptu"
    if head.startswith(b"HydraHarp\0"):
        return {2: "ht2", 3: "ht3"}.get(_mode(head, 340)) or _bad(path, "a HydraHarp file that is neither T2 nor T3")
    if head.startswith(b"PicoHarp 300\0"):
        return {2: "pt2", 3: "pt3"}.get(_mode(head, 348)) or _bad(path, "a PicoHarp file that is neither T2 nor T3")
    if head.startswith(b"TimeHarp 200\0"):
        return _bad(path, f"a TimeHarp 200 file ({version.decode('latin-1')}); its 100 ns clock is useless for keys")
    if head.startswith(b"\x87\xb3\x91\xfa"):
        return "qutag"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        kind: str = function_of("hdf5:hdf5_kind")(path)
        return kind
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if head.startswith(b"PAR1"):
        return _bad(path, "a Parquet table; convert it to npz, HDF5 or CSV")
    return None


def _is_text(head: bytes) -> bool:
    """Whether these bytes are text: UTF-8 without control characters."""
    if head.translate(None, _CONTROL) != head:
        return False
    try:
        head[: head.rfind(b"\n") + 1 or None].decode()
    except UnicodeDecodeError:
        return False
    return True


def _mode(head: bytes, offset: int) -> int:
    return int(struct.unpack_from("<i", head, offset)[0]) if len(head) >= offset + 4 else 0


def refuse_known(path: Path) -> None:
    """Refuses a file that was declared as a headerless binary kind but is text or carries the mark of another kind."""
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    found = _by_magic(path, head)
    if found is not None:
        raise FormatError(f"{path}: declared as a headerless kind, but it is a file of format {found}")
    if len(head) >= _ENOUGH_TEXT and _is_text(head):
        raise FormatError(f"{path}: declared as a binary kind, but it is text")


def _bad(path: Path, what: str) -> str:
    raise FormatError(f"{path}: {what}: not supported")


def _by_epoch_name(path: Path, head: bytes) -> str | None:
    """Epoch files of qcrypto carry their own name: the second word in hexadecimal."""
    if len(head) < 8:
        return None
    tag, epoch = struct.unpack_from("<II", head)
    named = path.name.lower() in (f"{epoch:x}", f"{epoch:08x}")
    return "qcrypto" if named and tag & ~0x100 in QCRYPTO_TYPES else None


def _by_text(path: Path, head: bytes) -> str:
    lines = head.split(b"\n")
    if len(head) == HEAD_BYTES:
        lines = lines[:-1]
    rows = [line.strip() for line in lines if line.strip() and not line.startswith(b"#")]
    if not rows:
        return _bad(path, "text without a row of numbers")
    if re.fullmatch(rb"time\s*,\s*channel\s*(,\s*flags\s*)?", rows[0]):
        return "csv"
    widths = {len(row) for row in rows if _HEX_LINE.fullmatch(row)}
    is_hex = all(_HEX_LINE.fullmatch(row) for row in rows) and bool(re.search(rb"[A-Fa-f]", b"".join(rows)))
    if is_hex and widths in ({16}, {8}):
        return "s15-a2" if widths == {16} else "s15-a0"
    if set(rows) <= {b"0", b"1"}:
        raise FormatError(f"{path}: sifted key text (0 or 1 per line), not a recording; give it to `qkdpp reconcile`")
    columns = {len(re.split(rb"[\s,;]+", row)) for row in rows}
    if not all(re.fullmatch(rb"[-0-9\s,;]+", row) for row in rows) or len(columns) != 1:
        first = rows[0][:80].decode("ascii", "replace")
        raise FormatError(f"{path}: text that is not a table of whole numbers (first line {first!r})")
    n = columns.pop()
    if n == 2 and all(_TWO_NUMBERS.fullmatch(row) for row in rows):
        return "text2"
    hint = {1: "id900-text", 2: "qutag-text or id900-text (option index)"}.get(n)
    if hint is None:
        return _bad(path, f"text with {n} columns of whole numbers")
    raise FormatError(f"{path}: text with {n} column(s) of whole numbers; declare format {hint} and the tick length")
