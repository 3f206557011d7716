"""Certificates for trials: what stands in them, and that nothing is overwritten."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from qkdpp import pki
from qkdpp.cli.app import build
from qkdpp.core.errors import InputError


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_command_makes_what_two_nodes_need(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    arguments = ["pki", "init", str(folder), "--node", "alice", "--node", "bob", "--application", "sae-1"]
    result = CliRunner().invoke(build(), [*arguments, "--host", "127.0.0.1"])
    assert result.exit_code == 0, result.output
    assert "for trials only" in result.output
    authority = read(folder / "authority.pem")
    for name, uses in (
        ("alice", {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
        ("sae-1", {ExtendedKeyUsageOID.CLIENT_AUTH}),
    ):
        certificate = read(folder / f"{name}.pem")
        certificate.verify_directly_issued_by(authority)
        assert isinstance(certificate.public_key().curve, ec.SECP256R1)  # type: ignore[union-attr]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]
        assert set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == uses
        assert "trial" in certificate.subject.rfc4514_string()
        assert (folder / f"{name}.key").stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(build(), ["pki", "init", str(folder), "--node", "carol"])
    assert again.exit_code == 0
    read(folder / "carol.pem").verify_directly_issued_by(authority)


def test_nothing_is_overwritten_and_odd_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make them first"):
        pki.create_certificate(tmp_path, "alice", "node")
    pki.create_authority(tmp_path)
    pki.create_certificate(tmp_path, "alice", "node")
    with pytest.raises(InputError, match="never overwritten"):
        pki.create_certificate(tmp_path, "alice", "node")
    with pytest.raises(InputError, match="never overwritten"):
        pki.create_authority(tmp_path)
    for name in ("", "../x", "authority", "a b"):
        with pytest.raises(InputError, match="a name of letters"):
            pki.create_certificate(tmp_path, name, "node")
