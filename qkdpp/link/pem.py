"""Authority, certificate and key of TLS, from PEM files: the one that does not serve is named, and why."""

from __future__ import annotations

import ssl
from pathlib import Path

from qkdpp.core.errors import ConfigError


def load_pem(context: ssl.SSLContext, authority: Path, certificate: Path, key: Path) -> None:
    """Puts the files into ``context``. ConfigError names the file that does not serve, and the remedy."""
    for path in (authority, certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise ConfigError(f"{path}: {what}; `qkdpp pki` makes files for trials") from error
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        told = "unusable for TLS: no certificate in PEM form; name that of the authority, such as authority.pem"
        raise ConfigError(f"{authority}: {told}") from error
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(_why(certificate, key, error)) from error


def _why(certificate: Path, key: Path, error: OSError) -> str:
    if b"-----BEGIN CERTIFICATE-----" not in certificate.read_bytes():
        shown = certificate.with_suffix(".pem").name
        return f"{certificate}: unusable for TLS: no certificate in PEM form; name the certificate, such as {shown}"
    if b"PRIVATE KEY-----" not in key.read_bytes():
        shown = certificate.with_suffix(".key").name
        return f"{key}: unusable for TLS: no private key in PEM form; name the key of {certificate}, such as {shown}"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{key}: unusable for TLS: not the key of {certificate}; name the two that belong together"
    return f"{certificate}, {key}: unusable for TLS ({error}); `qkdpp pki` makes files for trials"
