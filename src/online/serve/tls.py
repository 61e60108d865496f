"""TLS: certificate files, what is wrong with them, and why a handshake failed.

Not its job: to speak TLS (Trio's streams do), and to open sockets.
"""

import ssl
from pathlib import Path

from online import errors
from online.errors import ConfigError

Context = ssl.SSLContext


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Read the files `tls_cert` and `tls_key`. Raises ConfigError that names the file."""
    for name, path in (("tls_cert", certificate), ("tls_key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise errors.unusable_file(name, path, error) from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ConfigError(_why_refused(certificate, key, error)) from None
    return context


def read_again(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Use for connections from now on what the files hold by now (server_context checks them)."""
    context.load_cert_chain(certificate, key)


def _why_refused(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    """Say in one line why OpenSSL refuses two files; of most it says no more than `PEM lib`."""
    if b"CERTIFICATE-----" not in certificate.read_bytes():
        return f"tls_cert {certificate} holds no certificate (PEM)"
    if b"PRIVATE KEY-----" not in key.read_bytes():
        return f"tls_key {key} holds no private key (PEM)"
    both = f"tls_cert {certificate} and tls_key {key}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{both} do not belong together: the key is that of another certificate"
    return f"{both} cannot be used: {error.reason or error}"


def why_no_handshake(error: Exception) -> str:
    """Say in one line why TLS did not begin."""
    cause = error.__cause__
    return cause.reason or str(cause) if isinstance(cause, ssl.SSLError) else str(cause or error)
