"""Throw-away certificates for trials: an authority, nodes and applications, ECDSA on P-256.

For trials and tests only: the authority's key lies beside what it signs, and
nothing is ever revoked. A network in service has its own authority.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qkdpp.core.errors import InputError
from qkdpp.core.keyfile import create_secret

ORGANISATION: Final = "qkdpp trial, not for service"
AUTHORITY: Final = "authority"
Kind = Literal["node", "application"]


def create_authority(folder: Path, days: int = 365) -> Path:
    """Makes ``authority.pem`` and ``authority.key`` in ``folder``; the path of the certificate. InputError if there."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(AUTHORITY)
    builder = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return _write(folder, AUTHORITY, builder.sign(key, hashes.SHA256()), key)


def create_certificate(folder: Path, name: str, kind: Kind, *, days: int = 365, hosts: tuple[str, ...] = ()) -> Path:
    """Makes ``NAME.pem`` and ``NAME.key``, signed by the authority in ``folder``; the path of the certificate.

    The name stands as common name and as DNS name, with ``hosts`` (names or addresses) beside it. A node's certificate
    serves both ends of a connection, an application's the client's alone.
    """
    if not name or name == AUTHORITY or any(not (c.isalnum() or c in "-._") for c in name):
        raise InputError(
            f"{name!r}: a name of letters, digits, dots, hyphens and underscores, other than {AUTHORITY!r}"
        )
    authority, signer = _read_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * (kind == "node")
    builder = (
        _builder(_name(name), authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in (name, *hosts)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    return _write(folder, name, builder.sign(signer, hashes.SHA256()), key)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Path:
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    if path.exists():
        raise InputError(f"{path}: exists already and is never overwritten; choose another name or folder")
    create_secret(folder / f"{name}.key", secret)
    path.write_bytes(pem)
    return path


def _read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{AUTHORITY}.key").read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no usable authority.pem and authority.key ({error}); make them first") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{folder / AUTHORITY}.key: not a key that qkdpp made")
    return certificate, key
