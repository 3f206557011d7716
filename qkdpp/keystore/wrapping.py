"""Key-encrypting keys: what wraps the data keys of a store, kept outside its folder.

Both providers wrap by AES key wrap (RFC 3394), which also detects a wrong key.
The token of the second never lets its key out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote

from cryptography.hazmat.primitives import keywrap

from qkdpp.core.entropy import Entropy, OsEntropy
from qkdpp.core.errors import InputError
from qkdpp.core.keyfile import create_secret

if TYPE_CHECKING:
    from pkcs11 import SecretKey, Session

KEK_BYTES: Final = 32
SCHEME: Final = "pkcs11:"


class Wrapping(Protocol):
    """Wraps and unwraps 32-byte data keys."""

    def wrap(self, key: bytes) -> bytes:
        """The wrapped form of ``key``, 40 bytes."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key; InputError if it was wrapped under another key-encrypting key."""
        ...


def wrapping_of(key: str, folder: Path, *, create: bool) -> Wrapping:
    """The key-encrypting key that a configuration file in ``folder`` names.

    Args:
        key: a file, or ``pkcs11:token=LABEL;object=LABEL?module-path=LIBRARY&pin-source=FILE`` (RFC 7512) for a key in
            a token; relative names start from ``folder``.
        folder: of the configuration file.
        create: make the key if it is not there.

    Raises InputError if it does not serve.
    """
    if not key.startswith(SCHEME):
        path = folder / key
        if create and not path.exists():
            create_kek(path, OsEntropy())
        return FileWrapping(path)
    parts = [part.partition("=") for part in key.removeprefix(SCHEME).replace("?", ";").replace("&", ";").split(";")]
    found = {name: unquote(value) for name, _, value in parts}
    try:
        token, label, module, pin = (found.pop(name) for name in ("token", "object", "module-path", "pin-source"))
    except KeyError as missing:
        raise InputError(f"{key}: has no {missing}; token, object, module-path and pin-source are needed") from None
    if found:
        raise InputError(f"{key}: {', '.join(found)} not known; token, object, module-path and pin-source are")
    return TokenWrapping(folder / module, token, label, folder / pin.removeprefix("file:"), create=create)


def create_kek(path: Path, entropy: Entropy) -> None:
    """Creates a file with a key-encrypting key, mode 0400. InputError if it exists."""
    create_secret(path, entropy.bytes(KEK_BYTES))
    path.chmod(0o400)


class FileWrapping:
    """A key-encrypting key in a file of 32 bytes that its owner alone may read.

    Raises InputError if the file may be written, or read by others, or has another length.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                self._kek = file.read(KEK_BYTES + 1)
        except OSError as error:
            raise InputError(f"{path}: the key-encrypting key cannot be read ({error.strerror})") from error
        if mode & ~0o400:
            raise InputError(f"{path}: mode {mode:04o}; a key-encrypting key needs mode 0400 (chmod 400)")
        if len(self._kek) != KEK_BYTES:
            raise InputError(f"{path}: a key-encrypting key is a file of {KEK_BYTES} bytes")

    def __repr__(self) -> str:
        return f"FileWrapping({str(self.path)!r})"

    def wrap(self, key: bytes) -> bytes:
        """See :class:`Wrapping`."""
        return keywrap.aes_key_wrap(self._kek, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """See :class:`Wrapping`."""
        try:
            return keywrap.aes_key_unwrap(self._kek, wrapped)
        except keywrap.InvalidUnwrap as error:
            raise InputError(f"{self.path}: not the key-encrypting key of this store") from error


class TokenWrapping:
    """An AES key that stays inside a PKCS#11 token; needs the extra ``hsm``.

    Args:
        module: path of the token's PKCS#11 library.
        token: label of the token.
        key: label of the AES key in it.
        pin_file: file with the user's PIN, mode 0400.
        create: make the key (not extractable) if the token has none of this label.
    """

    def __init__(self, module: Path, token: str, key: str, pin_file: Path, *, create: bool = False) -> None:
        self._where = f"token {token!r}, key {key!r}"
        self._token_label, self._key_label = token, key
        try:
            import pkcs11  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise InputError("keys in a PKCS#11 token need a further package: pip install 'qkdpp[hsm]'") from error
        if not pin_file.is_file() or pin_file.stat().st_mode & 0o377:
            raise InputError(f"{pin_file}: a file with the PIN, mode 0400, is needed (chmod 400)")
        self._pin = pin_file.read_text(encoding="utf-8").strip()
        self._failures = pkcs11.PKCS11Error
        try:
            self._library = pkcs11.lib(str(module))
            with self._open() as session:
                if create and not self._find(session):
                    session.generate_key(
                        pkcs11.KeyType.AES,
                        8 * KEK_BYTES,
                        label=key,
                        store=True,
                        capabilities=pkcs11.MechanismFlag.WRAP | pkcs11.MechanismFlag.UNWRAP,
                        template={pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True},
                    )
                self._key(session)
        except (self._failures, RuntimeError) as error:
            raise InputError(f"{self._where}: not usable through {module} ({type(error).__name__})") from error

    def __repr__(self) -> str:
        return f"TokenWrapping({self._where})"

    def wrap(self, key: bytes) -> bytes:
        """See :class:`Wrapping`."""
        import pkcs11  # noqa: PLC0415

        with self._open() as session:
            inner = session.create_object(
                {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
                    pkcs11.Attribute.VALUE: key,
                    pkcs11.Attribute.TOKEN: False,
                    pkcs11.Attribute.EXTRACTABLE: True,
                }
            )
            return bytes(self._key(session).wrap_key(inner, mechanism=pkcs11.Mechanism.AES_KEY_WRAP))

    def unwrap(self, wrapped: bytes) -> bytes:
        """See :class:`Wrapping`."""
        import pkcs11  # noqa: PLC0415

        try:
            with self._open() as session:
                inner = self._key(session).unwrap_key(
                    pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.KeyType.AES,
                    wrapped,
                    mechanism=pkcs11.Mechanism.AES_KEY_WRAP,
                    template={pkcs11.Attribute.SENSITIVE: False, pkcs11.Attribute.EXTRACTABLE: True},
                )
                return bytes(inner[pkcs11.Attribute.VALUE])
        except self._failures as error:
            raise InputError(f"{self._where}: not the key-encrypting key of this store") from error

    def _open(self) -> Session:
        return self._library.get_token(token_label=self._token_label).open(rw=True, user_pin=self._pin)

    def _find(self, session: Session) -> list[SecretKey]:
        import pkcs11  # noqa: PLC0415

        wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY, pkcs11.Attribute.LABEL: self._key_label}
        return list(session.get_objects(wanted))

    def _key(self, session: Session) -> SecretKey:
        found = self._find(session)
        if len(found) != 1:
            raise InputError(f"{self._where}: the token has {len(found)} AES keys of this label; one is needed")
        return found[0]
