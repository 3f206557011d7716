"""The option by which tests find instruments on a bench (see tests/hardware)."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hardware",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="run the hardware tests (-m hardware) with driver NAME on the instrument at URL; may be repeated",
    )
