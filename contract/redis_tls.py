"""TLS of a Redis-protocol server, as the options of `REDIS_URL` describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from contract.certificate_files import Stamp, stamps
from contract.redis_options import read_flag
from contract.serving_errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
_REQUIREMENTS = ("none", "optional", "required")


@dataclass(frozen=True)
class RedisTls:
    """How a connection is encrypted; the names are redis-py's.

    Attributes
    ----------
    ca_certs
        PEM file of the authorities that serving trusts instead of the system's; redis-py, and so
        the runner and Feast, trust both.
    certfile, keyfile
        The client's certificate and its key, for a server that asks for one.
    cert_reqs
        `none`: any server is trusted; `optional` and `required`: the certificate is verified.
    prefix
        What comes before the names in `REDIS_URL`.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cert_reqs: str = "required"
    check_hostname: bool = True
    prefix: str = ""

    def context(self) -> ssl.SSLContext:
        """Return what encrypts a connection; the files are read again when they have changed.

        Raises
        ------
        ConfigurationError
            If one of the files cannot be read.
        """
        return _context(self, stamps(self.ca_certs, self.certfile, self.keyfile))


def read_tls(options: Mapping[str, str], prefix: str = "") -> RedisTls:
    """Return what the options of `REDIS_URL` say, by their names without `prefix`.

    Raises
    ------
    ConfigurationError
        If one of them has a value that it cannot have.
    """
    requirement = options.get("ssl_cert_reqs", "required")
    if requirement not in _REQUIREMENTS:
        raise ConfigurationError(
            f"REDIS_URL: {prefix}ssl_cert_reqs must be required, optional or none",
            hint="remove it: required is the default",
        )
    checked = read_flag(options, "ssl_check_hostname", prefix, default=True)
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ConfigurationError(
            f"REDIS_URL: {prefix}ssl_keyfile needs {prefix}ssl_certfile",
            hint=f"add {prefix}ssl_certfile=/path/to/client.pem",
        )
    return RedisTls(
        ca_certs=options.get("ssl_ca_certs"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        cert_reqs=requirement,
        check_hostname=checked and requirement != "none",
        prefix=prefix,
    )


@lru_cache(maxsize=8)  # 10 ms and more; every connection and node of a cluster asks for it
def _context(tls: RedisTls, _read_at: tuple[Stamp, ...]) -> ssl.SSLContext:
    import ssl

    prefix = tls.prefix
    try:
        context = ssl.create_default_context(cafile=tls.ca_certs)
    except OSError as err:
        raise ConfigurationError(
            f"REDIS_URL: {prefix}ssl_ca_certs={tls.ca_certs} cannot be read: {err.strerror}",
            hint="name a PEM file",
        ) from err
    context.check_hostname = tls.check_hostname
    context.verify_mode = ssl.VerifyMode[f"CERT_{tls.cert_reqs.upper()}"]
    if tls.certfile is not None:
        try:
            context.load_cert_chain(tls.certfile, tls.keyfile, password="")
        except OSError as err:
            raise ConfigurationError(
                f"REDIS_URL: {prefix}ssl_certfile={tls.certfile} or its key cannot be read: "
                f"{err.strerror}",
                hint="name the PEM files of a certificate and of its key, without a passphrase: "
                f"{prefix}ssl_certfile=…&{prefix}ssl_keyfile=…",
            ) from err
    return context
