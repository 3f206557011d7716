"""Files that a verb is asked to make: refused before the work if they could not be written after it."""

from __future__ import annotations

from pathlib import Path


def check(path: Path, option: str) -> None:
    """InputError if ``path`` is already there, or its folder is not."""
    from qkdpp.core.errors import InputError

    if path.exists():
        raise InputError(f"{path}: already there; name another with {option}, or move it away")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it, or name another with {option}")


def check_plot(path: Path) -> None:
    """The same for a figure, whose name says its format."""
    from qkdpp.rate.figures import check_suffix

    check_suffix(path)
    check(path, "--plot")


def write(path: Path, content: bytes) -> None:
    """Makes the file; InputError if that fails."""
    from qkdpp.core.errors import InputError

    try:
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
