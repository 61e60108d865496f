"""How TLS is spoken to a bus of Redis or Valkey, by what follows `?` in its url.

Not its job: to open connections (redisbus).
"""

import ssl
from collections.abc import Mapping

OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")

_REQUIRED = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}

Context = ssl.SSLContext


def client_context(options: Mapping[str, str]) -> Context:
    """Return how TLS is spoken. Raises OSError, or ValueError if an option has no such value."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if "ssl_certfile" in options or "ssl_keyfile" in options:
        context.load_cert_chain(options.get("ssl_certfile", ""), options.get("ssl_keyfile"))
    checks_host = options.get("ssl_check_hostname", "true").lower()
    if checks_host not in ("true", "false"):
        raise ValueError("ssl_check_hostname is true or false")
    required = options.get("ssl_cert_reqs", "required")
    if required not in _REQUIRED:
        raise ValueError(f"ssl_cert_reqs is one of {', '.join(_REQUIRED)}")
    context.check_hostname = checks_host == "true" and required != "none"
    context.verify_mode = _REQUIRED[required]
    return context


def told(error: BaseException | None) -> str:
    """Say why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); ?ssl_ca_certs=FILE names whom to trust"
    return f"it does not speak TLS as we do: {getattr(error, 'reason', None) or error or 'it hung up'}"
