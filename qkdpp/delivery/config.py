"""The file of ``qkdpp serve``: one key manager, its peers and its applications (``docs/formats/delivery.md``)."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from qkdpp.core.errors import ConfigError
from qkdpp.core.toml_kind import DELIVERY, meant
from qkdpp.delivery.bodies import Limits
from qkdpp.delivery.identity import Rule
from qkdpp.link.tcp import Address, TlsFiles

FORMAT = 1
MOST_KEYS: Final = 10_000
"""Their identifiers fit into one body of an application and one message of a key manager."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, by name, no unknown keys."""


class ServerSection(_Section, frozen=True, kw_only=True):
    """This key manager: name, address for applications (``:port`` is this computer alone), PEM files, rules of TLS.

    ``metrics``: address for Prometheus; ``metrics_tls``: whether under this key manager's certificate.
    """

    name: str
    listen: str
    authority: str
    certificate: str
    key: str
    minimum_tls: Literal["1.2", "1.3"] = "1.2"
    identity: Rule = "cn"
    metrics: str | None = None
    metrics_tls: bool = False


class StoreSection(_Section, frozen=True, kw_only=True):
    """Folder of the key store, and its key-encrypting key: a file of mode 0400, or a ``pkcs11:`` URI."""

    folder: str
    key: str


class PeerSection(_Section, frozen=True, kw_only=True):
    """A key manager at the other end of a link: one of ``listen`` and ``connect``, and the name in its certificate."""

    name: str
    listen: str | None = None
    connect: str | None = None
    certificate_name: str | None = None


class SaeSection(_Section, frozen=True, kw_only=True):
    """An application and its home; ``identity``: what the rule reads from its certificate (its id where absent)."""

    id: str
    kme: str
    identity: str | None = None
    rate_per_s: float = 1000.0


class _Document(_Section, frozen=True, kw_only=True):
    format: int
    server: ServerSection
    store: StoreSection
    peer: tuple[PeerSection, ...]
    sae: tuple[SaeSection, ...]
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A file that fits together.

    Attributes:
        path: of the file; relative names in it start from its folder.
        applications: by SAE ID.
        callers: SAE IDs of this key manager by certified identity.
    """

    path: Path
    server: ServerSection
    store: StoreSection
    peers: tuple[PeerSection, ...]
    applications: dict[str, SaeSection]
    callers: dict[str, str]
    limits: Limits

    def file(self, name: str) -> Path:
        """A file or folder that is named in the file."""
        return self.path.parent / name

    def address(self) -> Address:
        """For applications."""
        return self._address("server.listen", self.server.listen)

    def metrics(self) -> Address | None:
        """For Prometheus; None where nothing is told."""
        text = self.server.metrics
        return None if text is None else self._address("server.metrics", text)

    def meeting(self, peer: PeerSection) -> tuple[Address, TlsFiles]:
        """Where and as whom to meet a peer."""
        given = [(text, text is peer.listen) for text in (peer.listen, peer.connect) if text is not None]
        if len(given) != 1:
            raise ConfigError(f"{self.path}: peer {peer.name!r}: name either listen or connect, as host:port")
        text, listen = given[0]
        tls = TlsFiles(
            authority=self.file(self.server.authority),
            certificate=self.file(self.server.certificate),
            key=self.file(self.server.key),
            peer_name=peer.certificate_name or peer.name,
        )
        return self._address(f"peer {peer.name!r}", text, listen=listen), tls

    def _address(self, field: str, text: str, *, listen: bool = True) -> Address:
        """``host:port``; without a host this computer alone."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or not 0 <= int(port) < 65536:
            raise ConfigError(f"{self.path}: {field}: {text!r} is not host:port")
        return Address(host=host.strip("[]") or "127.0.0.1", port=int(port), listen=listen)


def load_delivery(path: Path) -> Delivery:
    """Reads and checks a file; ConfigError names the field."""
    table: dict[str, Any] = {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        document = msgspec.convert(table, _Document)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}{meant(table, DELIVERY)}") from error
    if document.format != FORMAT:
        raise ConfigError(f"{path}: format {document.format}; this version reads {FORMAT}")
    _check_limits(path, document.limits)
    own, kmes = document.server.name, {peer.name for peer in document.peer}
    if own in kmes or len(kmes) != len(document.peer):
        raise ConfigError(f"{path}: key managers need different names")
    for sae in document.sae:
        if sae.kme != own and sae.kme not in kmes:
            raise ConfigError(f"{path}: sae {sae.id!r}: kme {sae.kme!r} is neither this one nor a peer")
        if math.isnan(sae.rate_per_s) or sae.rate_per_s <= 0:
            raise ConfigError(f"{path}: sae {sae.id!r}: rate_per_s must be positive")
    applications = {sae.id: sae for sae in document.sae}
    local = [sae for sae in document.sae if sae.kme == own]
    callers = {_identity(sae, document.server.identity): sae.id for sae in local}
    if len(applications) != len(document.sae) or len(callers) != len(local):
        raise ConfigError(f"{path}: two entries of [[sae]] have one id or one identity")
    made = Delivery(
        path=path,
        server=document.server,
        store=document.store,
        peers=document.peer,
        applications=applications,
        callers=callers,
        limits=document.limits,
    )
    made.address()
    made.metrics()
    for peer in made.peers:
        made.meeting(peer)
    return made


def _identity(sae: SaeSection, rule: Rule) -> str:
    text = sae.identity or sae.id
    return text.lower().replace(":", "") if rule == "spki_sha256" else text


def _check_limits(path: Path, limits: Limits) -> None:
    sizes = (limits.min_key_size, limits.key_size, limits.max_key_size)
    if any(size % 8 for size in sizes) or not 8 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise ConfigError(f"{path}: limits: 8 <= min_key_size <= key_size <= max_key_size, multiples of 8, are needed")
    if not 1 <= limits.ttl_s <= limits.max_ttl_s <= 2**31:
        raise ConfigError(f"{path}: limits: 1 <= ttl_s <= max_ttl_s is needed")
    if not 1 <= limits.max_key_per_request <= MOST_KEYS or limits.max_sae_id_count < 0:
        raise ConfigError(f"{path}: limits: max_key_per_request from 1 to {MOST_KEYS}, max_sae_id_count from 0 on")
    if limits.max_key_per_request * limits.max_key_size > 8 << 26:
        raise ConfigError(f"{path}: limits: max_key_per_request times max_key_size is above 64 MiB; lower one")
