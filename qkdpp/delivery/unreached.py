"""Why an application got no answer from a key manager, in one line with the remedy.

OpenSSL, the resolver and the socket say what happened to them. With TLS 1.3 a refused certificate mostly shows as a
connection that ends after the handshake, as does a port that is not for applications: the certificate is judged here.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qkdpp.core.errors import ConfigError
from qkdpp.link.pem import load_pem

EXPIRED: Final = 10
OTHER_NAME: Final = (62, 64)
"""Of X509_verify_cert(3): a host name or an address that the certificate does not hold."""
PORT: Final = "the address for applications is server.listen of its delivery file, e.g. kme-alice.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """To a key manager, and as whom.

    Attributes:
        host, port: address.
        name: that its certificate must show.
        authority, certificate, key: PEM files.
    """

    host: str
    port: int
    name: str
    authority: Path
    certificate: Path
    key: Path

    def why(self, error: Exception) -> str:
        """What went wrong, and the remedy."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._mistrusted(error)
        if isinstance(error, ConnectionRefusedError):
            return f"nothing listens there; start the node (`qkdpp run`) or `qkdpp serve`, or mend the port: {PORT}"
        if isinstance(error, socket.gaierror | UnicodeError):
            return f"the host {self.host!r} is not known; HOST:PORT is wanted, e.g. 127.0.0.1:47626"
        if isinstance(error, TimeoutError):
            return f"no answer in time; is its process stopped, or is it another's port? {PORT}"
        if isinstance(error, ConnectionError | ssl.SSLEOFError) or "ALERT" in (getattr(error, "reason", None) or ""):
            return self._ended()
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            return error.strerror or str(error)
        return f"what listens there is no key manager's HTTPS ({error}); {PORT}"

    def _mistrusted(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in OTHER_NAME:
            return f"its certificate is not for {self.name!r}; name it as its certificate does (--kme NAME)"
        if error.verify_code == EXPIRED:
            return f"its certificate is out of date ({error.verify_message}); it needs a new one"
        told = f"its certificate is not signed by {self.authority} ({error.verify_message})"
        return f"{told}; name the authority that signed it (--authority)"

    def _ended(self) -> str:
        fault = self._own_fault()
        if fault is None:
            others = "is it that of a node's link, or of the key managers among themselves?"
            return f"it closed the connection without an answer; if it still runs, look at the port: {others} {PORT}"
        why = "out of date" if fault.verify_code == EXPIRED else f"not signed by {self.authority}"
        remedy = "name one that its authority signed, and the key beside it (--certificate)"
        return f"it refuses {self.certificate}: {why} ({fault.verify_message}); {remedy}"

    def _own_fault(self) -> ssl.SSLCertVerificationError | None:
        """What a server that knows the same authority finds in our certificate, by a handshake in memory."""
        here, there = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here.check_hostname, here.verify_mode, there.verify_mode = False, ssl.CERT_NONE, ssl.CERT_REQUIRED
        to_there, to_here = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            for context in (here, there):
                load_pem(context, self.authority, self.certificate, self.key)
            client, server = here.wrap_bio(to_here, to_there), there.wrap_bio(to_there, to_here, server_side=True)
            for end in (client, server, client, server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        except ssl.SSLCertVerificationError as error:
            return error
        except (ConfigError, ssl.SSLError):
            return None
        return None
