"""HTTP as the delivery server speaks it: what is no request gets the standard's Error too.

aiohttp answers what its parser refuses outside middlewares and signals, in
plain text that repeats what was sent, and logs it with a traceback. The one
place to do otherwise is a protocol of one's own (aiohttp issue 3287).
"""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from qkdpp.delivery.answers import refused
from qkdpp.delivery.requests import BAD_REQUEST, Refusal

LOGGER = logging.getLogger(__name__)
NO_REQUEST: Final = "no HTTP request, or a line of it is malformed or too long"


class Protocol(web.RequestHandler):
    """One connection of an application; it ends after an answer of this kind. Nothing that was sent is repeated."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called by aiohttp for what it cannot give to a handler, and for what a handler failed with."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        LOGGER.warning("a client was refused: %s (%s)", NO_REQUEST, type(exc).__name__)
        response = refused(Refusal(BAD_REQUEST, NO_REQUEST))
        response.headers["Cache-Control"] = "no-store"
        response.force_close()
        return response
