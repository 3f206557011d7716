"""For all tests: the option that finds instruments on a bench (see tests/hardware), and no time limits on examples."""

import pytest
from hypothesis import settings

settings.register_profile("qkdpp", deadline=None)
settings.load_profile("qkdpp")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hardware",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="run the hardware tests (-m hardware) with driver NAME on the instrument at URL; may be repeated",
    )
