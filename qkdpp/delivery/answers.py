"""Answers of the delivery server, and who they are for."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from qkdpp.delivery.requests import Refusal

CALLER: Final = web.RequestKey("caller", str)
"""SAE ID of the client certificate, set before a handler is called."""
RETRY_S: Final = 1


def answer(code: int, body: msgspec.Struct) -> web.Response:
    """A body as JSON."""
    return web.Response(status=code, body=msgspec.json.encode(body), content_type="application/json")


def refused(refusal: Refusal) -> web.Response:
    """The answer to a request that consumed nothing."""
    response = answer(refusal.code, refusal.error)
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    return response
