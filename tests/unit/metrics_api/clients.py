"""Certificates of clients, and connections that show them."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from heavylift_operator.metrics_api.certificates import Pair, Policy, new_authority

NOW = dt.datetime.now(dt.UTC)
_DAY = dt.timedelta(days=1)


def authority() -> Pair:
    """Return an authority of client certificates."""
    return new_authority(Policy(names=("unused",)), NOW)


@dataclass(frozen=True)
class Client:
    """One client certificate and its files."""

    pair: Pair
    file: Path

    def context(self, trusted: str) -> ssl.SSLContext:
        """Return a context that shows it and trusts these authorities."""
        context = ssl.create_default_context(cadata=trusted)
        context.load_cert_chain(self.file)
        return context


def client(
    folder: Path, signer: Pair, common_name: str = "front-proxy-client", *, server: bool = False, ended: bool = False
) -> Client:
    """Return a client certificate this authority signed.

    Args:
        folder: where its file goes.
        signer: who signs it.
        common_name: whom it names.
        server: it is for servers and not for clients.
        ended: its time is over.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 2 * _DAY)
        .not_valid_after(NOW - _DAY if ended else NOW + _DAY)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    pair = Pair(certificate, key)
    file = folder / f"{certificate.serial_number:x}.pem"
    file.write_text(pair.key_pem + pair.certificate_pem)
    return Client(pair, file)
