"""The web application: ETSI GS QKD 014 V1.1.1, clause 5, for whoever the registry knows.

Every request is judged in this order: who asks (401), how often (503), which
path and verb (404, 405), the request itself (400), then the key store. Refused
requests consume nothing. A key is out of the store, durably, before its answer
is written; an answer that is lost is lost with its keys.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import UUID

import msgspec
from aiohttp import web

from qkdpp.delivery import multicast, requests
from qkdpp.delivery.answers import CALLER, RETRY_S, answer, refused
from qkdpp.delivery.bodies import Error, KeyContainer, KeyIds, KeyItem, KeyRequest, Status
from qkdpp.delivery.config import Delivery
from qkdpp.delivery.identity import Allowance, names
from qkdpp.delivery.metrics import Metrics
from qkdpp.delivery.multicast import Homes
from qkdpp.delivery.openapi import describe
from qkdpp.delivery.peer import Peer
from qkdpp.delivery.requests import BAD_REQUEST, UNAUTHORISED, UNAVAILABLE, Refusal, Wanted
from qkdpp.delivery.stream_app import StreamRoutes
from qkdpp.delivery.streams import PeerUnreachableError, awaited
from qkdpp.keystore import (
    Key,
    KeysNotFoundError,
    KeyStore,
    LinkClosedError,
    NotEnoughKeyError,
    NotNamedError,
    StoreError,
)
from qkdpp.keystore.values import SECOND_NS

LOGGER = logging.getLogger(__name__)
MOST_BYTES: Final = 1 << 20
METHODS: Final = frozenset({"status", "enc_keys", "dec_keys", "open_connect", "get_key", "close"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Application:
    """The three methods of the standard, over a store and the peers of its links, by name."""

    def __init__(self, delivery: Delivery, store: KeyStore, peers: Mapping[str, Peer], metrics: Metrics) -> None:
        self._delivery, self._store, self._peers, self._metrics = delivery, store, peers, metrics
        self._limits = delivery.limits
        self._allowances = {
            name: Allowance(delivery.applications[name].rate_per_s) for name in delivery.callers.values()
        }
        self._description = msgspec.json.encode(describe(delivery.limits))

    def build(self) -> web.Application:
        """The application for aiohttp."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guard], client_max_size=MOST_BYTES)
        keys = "/api/v1/keys/{sae}"
        app.router.add_get(f"{keys}/status", self._status, allow_head=False)
        app.router.add_get(f"{keys}/enc_keys", self._get_key, allow_head=False)
        app.router.add_post(f"{keys}/enc_keys", self._get_key)
        app.router.add_get(f"{keys}/dec_keys", self._get_key_with_ids, allow_head=False)
        app.router.add_post(f"{keys}/dec_keys", self._get_key_with_ids)
        StreamRoutes(self._delivery, self._peers, self._metrics).add(app.router)
        app.router.add_get("/openapi.json", self._openapi, allow_head=False)
        return app

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with self._metrics.request(_method(request)) as seen:
            response = await self._judged(request, handler)
            seen.code = response.status
        response.headers["Cache-Control"] = "no-store"
        if not request.content.at_eof():
            response.force_close()
        return response

    async def _judged(self, request: web.Request, handler: Handler) -> web.Response:
        try:
            caller = self._caller(request)
            allowance = self._allowances[caller]
            if not allowance.take(time.monotonic()):
                wait_s = max(RETRY_S, math.ceil(allowance.wait_s))
                raise Refusal(UNAVAILABLE, "too many requests of this SAE", retry_after_s=wait_s)
            request[CALLER] = caller
            if "Content-Encoding" in request.headers:
                raise Refusal(BAD_REQUEST, "a request body shall be JSON as it is, without Content-Encoding")
            response = await handler(request)
            assert isinstance(response, web.Response)
            return response
        except Refusal as refusal:
            return refused(refusal)
        except web.HTTPRequestEntityTooLarge:
            return answer(BAD_REQUEST, Error(message=f"a request body has at most {MOST_BYTES} bytes"))
        except web.HTTPMethodNotAllowed as error:
            response = answer(error.status, Error(message="method not allowed"))
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return response
        except web.HTTPException as error:
            return answer(error.status, Error(message=error.reason.lower()))
        except ConnectionError:
            LOGGER.info("a client left in the middle of its request")
            return refused(Refusal(BAD_REQUEST, "incomplete request"))
        except Exception as error:
            LOGGER.exception("a request failed")
            return refused(self._refusal_of(error))

    def _caller(self, request: web.Request) -> str:
        """SAE ID of the client certificate."""
        tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
        der = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
        found = names(der, self._delivery.server.identity) if der else []
        known = {self._delivery.callers[name] for name in found if name in self._delivery.callers}
        if len(known) != 1:
            LOGGER.warning("a client without an entry was refused")
            raise Refusal(UNAUTHORISED, "the client certificate belongs to no SAE of this KME")
        return known.pop()

    def _homes(self, *slaves: str) -> Homes:
        """Where slaves are; at least one is at the other end of a link."""
        peers: dict[str, list[str]] = {}
        here = []
        for slave in slaves:
            sae = self._delivery.applications.get(slave)
            if sae is None:
                raise Refusal(BAD_REQUEST, "unknown slave SAE")
            if sae.kme in self._peers:
                peers.setdefault(sae.kme, []).append(slave)
            else:
                here.append(slave)
        if not peers:
            raise Refusal(BAD_REQUEST, "the slave SAE belongs to this KME, not to the other end of a link")
        return Homes(peers=peers, here=here)

    async def _status(self, request: web.Request) -> web.Response:
        requests.query(request.query.items(), ())
        slave, limits = request.match_info["sae"], self._limits
        (name,) = self._homes(slave).peers
        stock, nbytes = await self._peers[name].status(), limits.key_size // 8
        up = self._peers[name].up and not stock.closed
        status = Status(
            source_KME_ID=self._delivery.server.name,
            target_KME_ID=name,
            master_SAE_ID=request[CALLER],
            slave_SAE_ID=slave,
            key_size=limits.key_size,
            stored_key_count=stock.keys(nbytes) if up else 0,
            max_key_count=stock.most_keys(nbytes),
            max_key_per_request=limits.max_key_per_request,
            max_key_size=limits.max_key_size,
            min_key_size=limits.min_key_size,
            max_SAE_ID_count=limits.max_sae_id_count,
        )
        return answer(200, status)

    async def _get_key(self, request: web.Request) -> web.Response:
        master, slave = request[CALLER], request.match_info["sae"]
        if request.method == "GET":
            asked = requests.key_request_of_query(requests.query(request.query.items(), ("number", "size")))
        else:
            requests.query(request.query.items(), ())
            asked = requests.decode(await request.read() or b"{}", KeyRequest)
        wanted = requests.wanted(asked, slave, master, self._limits)
        homes = self._homes(*wanted.slaves)
        if len(homes.peers) > 1 and wanted.number * wanted.nbytes > multicast.MOST_BYTES:
            most = 8 * multicast.MOST_BYTES
            raise Refusal(BAD_REQUEST, f"number times size shall be at most {most} bits for slave SAEs of several KMEs")
        try:
            await self._check_age(self._peers[next(iter(homes.peers))], wanted)
            keys = await self._keys(homes, wanted, master)
        except (StoreError, PeerUnreachableError) as error:
            LOGGER.warning("no key for %s and %s: %s", master, slave, error)
            raise self._refusal_of(error) from error
        return self._container(keys, master, "master")

    async def _keys(self, homes: Homes, wanted: Wanted, master: str) -> list[Key]:
        number, nbytes, ttl_s = wanted.number, wanted.nbytes, wanted.ttl_s
        if len(homes.peers) > 1 or homes.here:
            return await multicast.multicast(
                self._store, self._peers, homes, number, nbytes, master=master, ttl_s=ttl_s
            )
        ((peer, slaves),) = homes.peers.items()
        return await self._peers[peer].keys(number, nbytes, master=master, slaves=slaves, ttl_s=ttl_s)

    async def _check_age(self, peer: Peer, wanted: Wanted) -> None:
        """Keys come from the oldest material first, so its age bounds theirs."""
        if wanted.max_age_s is None:
            return
        oldest_ns = (await peer.status()).oldest_ns
        if oldest_ns is not None and self._store.clock() - oldest_ns > wanted.max_age_s * SECOND_NS:
            requests.age_refused(wanted, self._limits)

    async def _get_key_with_ids(self, request: web.Request) -> web.Response:
        slave, master = request[CALLER], request.match_info["sae"]
        if request.method == "GET":
            ids = requests.ids_of_query(requests.query(request.query.items(), ("key_ID",)))
        else:
            requests.query(request.query.items(), ())
            ids = requests.ids(requests.decode(await request.read(), KeyIds), self._limits)
        try:
            keys = await awaited(self._store.deliver(slave, ids, master=master))
        except StoreError as error:
            LOGGER.warning("no key for %s by identifier: %s", slave, error)
            raise self._refusal_of(error) from error
        return self._container(keys, slave, "slave")

    def _container(self, keys: list[Key], sae: str, role: str) -> web.Response:
        response = answer(200, KeyContainer(keys=tuple(_item(key.key_id, key.secret) for key in keys)))
        for key in keys:
            key.wipe()
        self._metrics.delivered(sae, role, len(keys))
        LOGGER.debug("%d keys to %s as %s", len(keys), sae, role)
        return response

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")

    @staticmethod
    def _refusal_of(error: Exception) -> Refusal:
        """The answer to what the store or the peer did not do; says no more than the standard wants."""
        if isinstance(error, KeysNotFoundError):
            return requests.not_found()
        if isinstance(error, NotNamedError):
            return Refusal(UNAUTHORISED, "the SAE was not named for one or more of the keys")
        if isinstance(error, NotEnoughKeyError):
            return Refusal(UNAVAILABLE, "not enough key", retry_after_s=RETRY_S)
        if isinstance(error, LinkClosedError):
            return Refusal(UNAVAILABLE, "the link is closed after an alarm")
        if isinstance(error, (StoreError, PeerUnreachableError)):
            return Refusal(UNAVAILABLE, "the peer KME does not answer", retry_after_s=RETRY_S)
        return Refusal(UNAVAILABLE, "internal error")


def _item(key_id: UUID, secret: bytearray) -> KeyItem:
    return KeyItem(key_ID=str(key_id), key=secret)  # type: ignore[arg-type]  # encoded like bytes, not copied


def _method(request: web.Request) -> str:
    """Last part of a known path, or ``other``."""
    last = request.path.rpartition("/")[2]
    return last if last in METHODS else "other"
