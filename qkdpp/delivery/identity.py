"""Who asks: the application (SAE) that a client certificate stands for, and what it may do.

The authority vouches for a certificate, the registry decides: who is not in it
is nobody, so that taking an entry out revokes. Identity never comes from a header.
"""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from qkdpp.link.pem import load_pem

Rule = Literal["cn", "san_dns", "san_uri", "spki_sha256"]
AEAD: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Suites of TLS 1.2; all of TLS 1.3 are of this kind."""


def server_context(authority: Path, certificate: Path, key: Path, minimum: Literal["1.2", "1.3"]) -> ssl.SSLContext:
    """TLS of the delivery server: certificates on both sides. ConfigError if a file does not serve."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[minimum]
    context.set_ciphers(AEAD)
    context.verify_mode = ssl.CERT_REQUIRED
    load_pem(context, authority, certificate, key)
    return context


def names(der: bytes, rule: Rule) -> list[str]:
    """What ``rule`` reads from a certificate; empty if there is nothing, or the certificate's time is not now."""
    begin, end, found = _read(der, rule)
    return list(found) if begin <= datetime.now(UTC) <= end else []


@lru_cache(maxsize=256)
def _read(der: bytes, rule: Rule) -> tuple[datetime, datetime, tuple[str, ...]]:
    """The time of a certificate and what ``rule`` reads from it; parsed once for all requests."""
    certificate = x509.load_der_x509_certificate(der)
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc, tuple(_names(certificate, rule))


def _names(certificate: x509.Certificate, rule: Rule) -> list[str]:
    if rule == "spki_sha256":
        info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return [hashlib.sha256(info).hexdigest()]
    if rule == "cn":
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return [str(common[0].value)] if len(common) == 1 else []
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    kind = x509.DNSName if rule == "san_dns" else x509.UniformResourceIdentifier
    return [str(name) for name in alternatives.get_values_for_type(kind)]


class Allowance:
    """At most ``rate_per_s`` requests a second in the long run, and as many at once."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate, self._most = rate_per_s, max(1.0, rate_per_s)
        self._left, self._since_s = self._most, 0.0

    def take(self, now_s: float) -> bool:
        """Whether a request at ``now_s`` may pass; it is counted then."""
        self._left = min(self._most, self._left + self._rate * (now_s - self._since_s))
        self._since_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    @property
    def wait_s(self) -> float:
        """How long after the last request another one may pass."""
        return max(0.0, (1.0 - self._left) / self._rate)
