"""An application's side of ETSI GS QKD 014, and of streams: asks a key manager for keys. One connection, no event loop.

Nothing is asked twice by itself: an answer that was lost may have been a key. A connection that was closed while
nothing was asked is made anew.
"""

from __future__ import annotations

import http.client
import selectors
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from qkdpp.core.errors import ConfigError, LinkError, QkdppError
from qkdpp.delivery.bodies import KeyContainer, Status
from qkdpp.delivery.stream_bodies import Chunk, Closed, Connected, Granted
from qkdpp.delivery.unreached import PORT, Way
from qkdpp.link.pem import load_pem

T = TypeVar("T")
AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredKey:
    """A key and its identifier, by which the slave fetches the same key."""

    key_id: UUID
    key: bytes = field(repr=False)


class Fault(msgspec.Struct, frozen=True):
    """Body of every refusal."""

    message: str
    details: tuple[dict[str, Any], ...] = ()
    status: int | None = None
    QoS: Granted | None = None

    def __str__(self) -> str:
        told = [f"{name}: {value}" for detail in self.details for name, value in detail.items()]
        if self.QoS is not None:
            told.append(f"can be met: {msgspec.json.encode(self.QoS).decode()}")
        return f"{self.message} ({'; '.join(told)})" if told else self.message


class DeliveryError(QkdppError):
    """The key manager refused.

    Attributes:
        code: HTTP status: 400, 401 or 503.
        message: its words, without the details that the text of the error has.
        retry_after_s: when to ask again, if it said so.
        status: of ETSI GS QKD 004, where it is about a stream.
        offer: QoS that could be met, with status 7.
    """

    def __init__(self, code: int, fault: Fault, retry_after_s: int | None) -> None:
        super().__init__(f"{code}: {fault}")
        self.code, self.message, self.retry_after_s = code, fault.message, retry_after_s
        self.status, self.offer = fault.status, fault.QoS

    @property
    def no_key(self) -> bool:
        """Whether it has no key to give now (or no more of a stream), rather than that the request is wrong."""
        return self.code == 503 or self.status == 3


class Client:
    """A connection to the key manager at ``host:port``, for the application that the certificate stands for.

    Args:
        where: ``host:port``; ``https://`` before it is allowed.
        authority: PEM file of the authority of both certificates.
        certificate: PEM file of the application.
        key: PEM file of its key.
        name: of the key manager, which must stand in its certificate; None: the host must.
        timeout_s: for every answer.

    Methods raise DeliveryError if the key manager refuses and LinkError if it cannot be reached or does not answer;
    after a LinkError keys may have been given out and lost.
    """

    def __init__(
        self,
        where: str,
        *,
        authority: Path,
        certificate: Path,
        key: Path,
        name: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        host, port = _address(where)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        load_pem(context, authority, certificate, key)
        self._where, name = where, name or host
        self._way = Way(host=host, port=port, name=name, authority=authority, certificate=certificate, key=key)
        self._connection = _Connection(self._way, timeout_s, context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def status(self, slave: str) -> Status:
        """Get status: stock and limits for keys with ``slave``."""
        return self._ask("GET", f"keys/{quote(slave, safe='')}/status", None, Status)

    def get(
        self,
        slave: str,
        number: int = 1,
        size: int | None = None,
        *,
        additional_slaves: Sequence[str] = (),
        mandatory: Sequence[dict[str, Any]] = (),
        optional: Sequence[dict[str, Any]] = (),
    ) -> list[DeliveredKey]:
        """Get key, as master: new keys of ``size`` bits (the key manager's default where None)."""
        request: dict[str, Any] = {"number": number}
        if size is not None:
            request["size"] = size
        for name, value in (
            ("additional_slave_SAE_IDs", additional_slaves),
            ("extension_mandatory", mandatory),
            ("extension_optional", optional),
        ):
            if value:
                request[name] = value
        return _keys(self._ask("POST", f"keys/{quote(slave, safe='')}/enc_keys", request, KeyContainer))

    def fetch(self, master: str, key_ids: Iterable[UUID | str]) -> list[DeliveredKey]:
        """Get key with key IDs, as slave: all of them, once, or none."""
        request = {"key_IDs": [{"key_ID": str(key_id)} for key_id in key_ids]}
        return _keys(self._ask("POST", f"keys/{quote(master, safe='')}/dec_keys", request, KeyContainer))

    def open_stream(
        self, source: str, destination: str, *, stream_id: UUID | str | None = None, **quality: int | str
    ) -> Stream:
        """Opens a stream of key from ``source`` to ``destination``, one of them this application, or joins it.

        The one that opens it tells the other its identifier; the other gives it as ``stream_id``. ``quality``: of QoS,
        e.g. ``Key_chunk_size=32`` (bytes), ``Timeout=500`` (ms); DeliveryError with ``offer`` if it cannot be met.
        """
        request: dict[str, Any] = {"source": source, "destination": destination}
        if stream_id is not None:
            request["key_stream_ID"] = str(stream_id)
        if quality:
            request["QoS"] = quality
        return Stream(self, self._ask("POST", "streams/open_connect", request, Connected))

    def _ask(self, verb: str, path: str, request: dict[str, Any] | None, kind: type[T]) -> T:
        body = None if request is None else msgspec.json.encode(request)
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        self._connection.drop_if_ended()
        try:
            self._connection.request(verb, f"/api/v1/{path}", body, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self._connection.close()
            raise LinkError(f"{self._where}: {self._way.why(error)}") from error
        try:
            if response.status == 200:
                return msgspec.json.decode(answer, type=kind)
            fault = msgspec.json.decode(answer, type=Fault)
        except msgspec.MsgspecError:
            told = f"status {response.status}, and a body that is not the standard's; {PORT}"
            raise LinkError(f"{self._where}: {told}") from None
        retry = response.getheader("Retry-After") or ""
        raise DeliveryError(response.status, fault, int(retry) if retry.isdecimal() else None)


class _Connection(http.client.HTTPConnection):
    """To a key manager whose certificate shows its name."""

    def __init__(self, way: Way, timeout_s: float, context: ssl.SSLContext) -> None:
        super().__init__(way.host, way.port, timeout=timeout_s)
        self._context, self._name = context, way.name

    def connect(self) -> None:
        """TCP, then TLS."""
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)

    def drop_if_ended(self) -> None:
        """Makes the next request use a new connection if the other end has closed this one: nothing was asked on it."""
        if self.sock is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            if selector.select(0):
                self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChunk:
    """Key of a stream: the other application gets the same under the same index. ``metadata``: JSON, or empty."""

    index: int
    key: bytes = field(repr=False)
    metadata: str = ""


class Stream:
    """An open stream: chunks one after the other, until the other application closes it; closed at the end of ``with``.

    Attributes:
        stream_id: by which the other application joins it.
        quality: QoS that was granted.
        joined: whether the other application had opened it, too.
    """

    def __init__(self, client: Client, opened: Connected) -> None:
        self._client, self._over = client, False
        self.stream_id, self.quality = UUID(opened.key_stream_ID), opened.QoS
        self.joined = opened.status == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[StreamChunk]:
        return self

    def __next__(self) -> StreamChunk:
        try:
            return self.get()
        except DeliveryError as error:
            if error.code == 400 and error.status == 3:
                raise StopIteration from None
            raise

    def get(self, index: int | None = None, *, metadata_size: int | None = None) -> StreamChunk:
        """GET_KEY: the chunk of an index, or the next one. DeliveryError with ``status`` if there is none in time."""
        given = {"index": index, "metadata_size": metadata_size}
        request = {name: value for name, value in given.items() if value is not None}
        got = self._client._ask("POST", f"streams/{self.stream_id}/get_key", request, Chunk)
        return StreamChunk(index=got.index, key=got.key_buffer, metadata=got.metadata)

    def wait(self, wait_s: float) -> StreamChunk:
        """The next chunk; see :func:`patiently`."""
        return patiently(self.get, wait_s)

    def close(self) -> None:
        """CLOSE; may be called again."""
        if not self._over:
            self._over = True
            self._client._ask("POST", f"streams/{self.stream_id}/close", {}, Closed)


def patiently(ask: Callable[[], T], wait_s: float) -> T:
    """Asks again while the key manager says that it is worth it, for so long (a refusal loses no key)."""
    until_s = time.monotonic() + wait_s
    while True:
        try:
            return ask()
        except DeliveryError as error:
            if error.retry_after_s is None or time.monotonic() >= until_s:
                raise
        time.sleep(AGAIN_S)


def _address(where: str) -> tuple[str, int]:
    host, _, port = where.removeprefix("https://").removesuffix("/").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{where!r}: HOST:PORT of a key manager is wanted, e.g. 127.0.0.1:47626")
    return host, int(port)


def _keys(container: KeyContainer) -> list[DeliveredKey]:
    return [DeliveredKey(key_id=UUID(item.key_ID), key=item.key) for item in container.keys]
