"""An application's side of ETSI GS QKD 014: asks a key manager for keys. Standard library alone, one connection.

Nothing is asked twice by itself: an answer that was lost may have been a key.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from qkdpp.core.errors import ConfigError, LinkError, QkdppError
from qkdpp.delivery.bodies import Error, KeyContainer, Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredKey:
    """A key and its identifier, by which the slave fetches the same key."""

    key_id: UUID
    key: bytes = field(repr=False)


class DeliveryError(QkdppError):
    """The key manager refused.

    Attributes:
        code: HTTP status: 400, 401 or 503.
        message: its words.
        retry_after_s: when to ask again, if it said so.
    """

    def __init__(self, code: int, message: str, retry_after_s: int | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.retry_after_s = code, message, retry_after_s


class Client:
    """A connection to the key manager at ``host:port``, for the application that the certificate stands for.

    Args:
        where: ``host:port``; the host stands in the key manager's certificate.
        authority: PEM file of the authority of both certificates.
        certificate: PEM file of the application.
        key: PEM file of its key.
        timeout_s: for every answer.

    Methods raise DeliveryError if the key manager refuses and LinkError if it cannot be reached or does not answer;
    after a LinkError keys may have been given out and lost.
    """

    def __init__(self, where: str, *, authority: Path, certificate: Path, key: Path, timeout_s: float = 10.0) -> None:
        host, colon, port = where.rpartition(":")
        if not colon or not port.isdecimal():
            raise ConfigError(f"{where!r} is not host:port")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(authority)
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{authority}, {certificate}, {key}: unusable for TLS ({error})") from error
        self._where = where
        self._connection = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=timeout_s, context=context)

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
        return self._ask("GET", slave, "status", None, Status)

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
        return _keys(self._ask("POST", slave, "enc_keys", request, KeyContainer))

    def fetch(self, master: str, key_ids: Iterable[UUID | str]) -> list[DeliveredKey]:
        """Get key with key IDs, as slave: all of them, once, or none."""
        request = {"key_IDs": [{"key_ID": str(key_id)} for key_id in key_ids]}
        return _keys(self._ask("POST", master, "dec_keys", request, KeyContainer))

    def _ask(self, verb: str, sae: str, method: str, request: dict[str, Any] | None, kind: type[T]) -> T:
        body = None if request is None else msgspec.json.encode(request)
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        try:
            self._connection.request(verb, f"/api/v1/keys/{quote(sae, safe='')}/{method}", body, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise LinkError(f"{self._where}: {error or type(error).__name__}") from error
        try:
            if response.status == 200:
                return msgspec.json.decode(answer, type=kind)
            message = msgspec.json.decode(answer, type=Error).message
        except msgspec.MsgspecError:
            raise LinkError(f"{self._where}: status {response.status}, and a body that is not the standard's") from None
        retry = response.getheader("Retry-After") or ""
        raise DeliveryError(response.status, message, int(retry) if retry.isdecimal() else None)


def _keys(container: KeyContainer) -> list[DeliveredKey]:
    return [DeliveredKey(key_id=UUID(item.key_ID), key=item.key) for item in container.keys]
