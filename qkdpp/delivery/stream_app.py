"""The web face of streams: OPEN_CONNECT, GET_KEY and CLOSE of ETSI GS QKD 004 V2.1.1 as three POSTs.

Who asks was judged before (:mod:`qkdpp.delivery.app`). A stream of others is as
unknown as one that is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final
from uuid import UUID, uuid4

import msgspec
from aiohttp import web

from qkdpp.delivery import requests
from qkdpp.delivery import stream_bodies as bodies
from qkdpp.delivery.answers import CALLER, RETRY_S, answer
from qkdpp.delivery.config import Delivery
from qkdpp.delivery.metrics import Metrics
from qkdpp.delivery.peer import Peer
from qkdpp.delivery.requests import BAD_REQUEST, Refusal
from qkdpp.delivery.stream_bodies import Granted, OpenConnect
from qkdpp.delivery.streams import Chunk, Code, PeerUnreachableError, StreamError
from qkdpp.keystore import (
    DESTINATION,
    SOURCE,
    LinkClosedError,
    StoreError,
    StreamInUseError,
    StreamState,
    StreamUnknownError,
    Terms,
    TooManyStreamsError,
)
from qkdpp.keystore.values import SECOND_NS

LOGGER = logging.getLogger(__name__)
ROOT: Final = "/api/v1/streams"
FAILURES: Final = (StoreError, StreamError, PeerUnreachableError)


class StreamRoutes:
    """Over the peers of a key manager, by name."""

    def __init__(self, delivery: Delivery, peers: Mapping[str, Peer], metrics: Metrics) -> None:
        self._delivery, self._peers, self._metrics = delivery, peers, metrics

    def add(self, router: web.UrlDispatcher) -> None:
        """Adds the three paths."""
        router.add_post(f"{ROOT}/open_connect", self._open)
        router.add_post(f"{ROOT}/{{stream}}/get_key", self._get_key)
        router.add_post(f"{ROOT}/{{stream}}/close", self._close)

    async def _open(self, request: web.Request) -> web.Response:
        asked = await _body(request, OpenConnect)
        caller = request[CALLER]
        if caller not in {asked.source, asked.destination} or asked.source == asked.destination:
            raise Refusal(BAD_REQUEST, "source and destination shall be the calling SAE and another one")
        other = asked.destination if caller == asked.source else asked.source
        sae = self._delivery.applications.get(other)
        if sae is None:
            raise Refusal(BAD_REQUEST, "unknown SAE at the other end")
        if sae.kme not in self._peers:
            raise Refusal(BAD_REQUEST, "the other SAE belongs to this KME, not to the other end of a link")
        peer = self._peers[sae.kme]
        try:
            terms, here = await self._terms(peer, asked, caller)
            state = await peer.streams.open(terms, here, new=asked.key_stream_ID is None)
        except FAILURES as error:
            LOGGER.warning("no stream for %s and %s: %s", caller, other, error)
            raise _refusal_of(error) from error
        status = Code.DONE if state.joined == SOURCE | DESTINATION else Code.PEER_NOT_CONNECTED
        LOGGER.info("a stream opened by %s, status %d", caller, status)
        granted = _granted(state)
        return answer(200, bodies.Connected(status=status, key_stream_ID=str(terms.stream), QoS=granted))

    async def _terms(self, peer: Peer, asked: OpenConnect, caller: str) -> tuple[Terms, int]:
        """Terms of the stream, those that hold or new ones, and whose end this is."""
        stream = uuid4() if asked.key_stream_ID is None else UUID(asked.key_stream_ID)
        known = None if asked.key_stream_ID is None else await peer.streams.known(stream)
        limits = self._delivery.limits
        if known is not None:
            terms = known.terms
            if {asked.source, asked.destination} != {terms.source, terms.destination}:
                raise StreamInUseError("a stream of this identifier is between others")
            if asked.QoS is not None and bodies.asked(asked.QoS, limits) != (granted := _granted(known)):
                raise bodies.StreamRefusal(BAD_REQUEST, Code.QUALITY, "the stream has another QoS", offer=granted)
            return terms, known.here
        wanted = bodies.asked(asked.QoS, limits)
        here = SOURCE if caller == asked.source else DESTINATION
        status = await peer.status()
        granted = bodies.offer(wanted, limits, status.available if here == SOURCE else status.incoming)
        if granted != wanted:
            raise bodies.StreamRefusal(BAD_REQUEST, Code.QUALITY, "this QoS cannot be met", offer=granted)
        terms = Terms(
            stream=stream,
            source=asked.source,
            destination=asked.destination,
            nbytes=granted.Key_chunk_size,
            ttl_s=granted.TTL,
            quality=msgspec.json.encode(granted).decode(),
        )
        return terms, here

    async def _find(self, request: web.Request) -> tuple[Peer, StreamState]:
        """The stream in the path, if it is the caller's."""
        text = request.match_info["stream"]
        try:
            stream = msgspec.convert(text, UUID)
        except msgspec.ValidationError:
            raise bodies.unknown() from None
        for peer in self._peers.values():
            state = await peer.streams.known(stream)
            if state is not None:
                own = state.terms.source if state.here == SOURCE else state.terms.destination
                if own == request[CALLER]:
                    return peer, state
        raise bodies.unknown()

    async def _get_key(self, request: web.Request) -> web.Response:
        asked = await _body(request, bodies.GetKey)
        peer, state = await self._find(request)
        granted = _granted(state)

        def check(chunk: Chunk) -> None:
            if asked.metadata_size is not None and len(_metadata(peer, state, chunk)) > asked.metadata_size:
                raise StreamError(Code.METADATA, "the metadata are longer than metadata_size")

        try:
            chunk = await peer.streams.chunk(
                state.terms.stream,
                asked.index,
                wait_s=granted.Timeout / 1000,
                max_bps=granted.Max_bps,
                check=check,
            )
        except FAILURES as error:
            LOGGER.warning("no chunk for %s: %s", request[CALLER], error)
            raise _refusal_of(error) from error
        body = bodies.Chunk(
            status=Code.DONE,
            index=chunk.index,
            key_buffer=chunk.key.secret,  # type: ignore[arg-type]  # encoded like bytes, not copied
            metadata=_metadata(peer, state, chunk),
        )
        response = answer(200, body)
        chunk.key.wipe()
        self._metrics.chunk(request[CALLER], "source" if state.here == SOURCE else "destination")
        return response

    async def _close(self, request: web.Request) -> web.Response:
        await _body(request, bodies.Nothing)
        peer, state = await self._find(request)
        try:
            await peer.streams.close(state.terms.stream)
        except FAILURES as error:
            raise _refusal_of(error) from error
        LOGGER.info("a stream closed by %s", request[CALLER])
        return answer(200, bodies.Closed(status=Code.DONE))


async def _body(request: web.Request, kind: type[requests.T]) -> requests.T:
    requests.query(request.query.items(), ())
    return requests.decode(await request.read() or b"{}", kind)


def _granted(state: StreamState) -> Granted:
    return msgspec.json.decode(state.terms.quality, type=Granted)


def _metadata(peer: Peer, state: StreamState, chunk: Chunk) -> str:
    """How long ago the chunk was agreed on, in ms, if the stream has metadata."""
    if not _granted(state).Metadata_mimetype:
        return ""
    agreed_ns = chunk.not_after_ns - state.terms.ttl_s * SECOND_NS
    return msgspec.json.encode({"age_ms": max(0, peer.streams.now_ns() - agreed_ns) // 10**6}).decode()


def _refusal_of(error: Exception) -> Refusal:
    """Says no more than the application may know."""
    if isinstance(error, StreamError):
        return bodies.refusal(error.code, str(error), final=error.final, retry_after_s=RETRY_S)
    if isinstance(error, StreamUnknownError):
        return bodies.unknown()
    if isinstance(error, StreamInUseError):
        return bodies.refusal(Code.IN_USE, "the key_stream_ID is in use", final=True, retry_after_s=None)
    if isinstance(error, TooManyStreamsError):
        return bodies.refusal(Code.NO_LINK, "too many streams of this SAE are open", final=False, retry_after_s=RETRY_S)
    if isinstance(error, LinkClosedError):
        return bodies.refusal(Code.NO_LINK, "the link is closed after an alarm", final=False, retry_after_s=None)
    return bodies.refusal(Code.NO_LINK, "the peer KME does not answer", final=False, retry_after_s=RETRY_S)
