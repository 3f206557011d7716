"""Errors by whose fault they are.

Expected ends of a block (too many errors, no key left) are not errors but
:class:`qkdpp.core.abort.Aborted` values.
"""


class QkdppError(Exception):
    """Base of every error that qkdpp raises on purpose."""


class InputError(QkdppError):
    """Bad input or usage: the message names the file, the field and the remedy (exit code 2)."""


class FormatError(InputError):
    """A recording or key file is not what it claims, or cannot be told apart."""


class ConfigError(InputError):
    """A ``run.toml`` or scenario holds a wrong or missing value."""


class DeviceError(QkdppError):
    """An instrument failed (cut, silent, wrong identity, refused a value): device, field and remedy are named."""


class LinkError(QkdppError):
    """The classical channel failed (cut, timed out, closed early)."""


class LocalProtocolError(QkdppError):
    """This side misused the protocol core: our own fault."""


class RemoteProtocolError(QkdppError):
    """The peer sent something that is not allowed here."""


class AuthenticationError(QkdppError):
    """A tag did not verify, or the authentication pool cannot serve: the session ends without a key."""


class KernelError(QkdppError):
    """A kernel was given arrays that break its contract."""
