"""``qkdpp`` that says all it can: ``loud_process.py run|serve FILE``.

Every logger, every step of the event loop with its objects, stacks of all threads at a fatal signal, a traceback for
every third answer, and core files as large as they like. ``UNGUARDED`` in the environment leaves the guard out.
"""

import asyncio
import faulthandler
import logging
import os
import resource
import sys

from qkdpp.cli import main
from qkdpp.core import guard
from qkdpp.delivery import app

logging.basicConfig(level=1)
faulthandler.enable()
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if "UNGUARDED" in os.environ:
    guard.keep_memory_private = lambda: None

make_loop, container, answers = asyncio.BaseEventLoop.__init__, app.Application._container, [0]


def loud_loop(loop):
    make_loop(loop)
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0


def failing(self, keys, sae, role):
    answers[0] += 1
    if answers[0] % 3 == 0:
        raise RuntimeError(f"planted fault with {keys!r}")
    return container(self, keys, sae, role)


asyncio.BaseEventLoop.__init__ = loud_loop
app.Application._container = failing
sys.argv[0] = "qkdpp"
main()
