"""Keys and certificates of a cluster: two authorities, and one identity for each of its programs."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=365)
SLACK = dt.timedelta(hours=1)
"""How far certificates reach into the past, for clocks that are set back."""


@dataclass(frozen=True)
class Identity:
    """Who a certificate speaks for.

    Attributes:
        file: name of the files, without suffix.
        user: common name: the user that Kubernetes sees.
        groups: organisations: the groups that Kubernetes sees.
        names: host names and addresses a server answers under.
    """

    file: str
    user: str
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose files lie in ``folder``."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, identities: Iterable[Identity]) -> None:
        """Write a key and a certificate, good for server and client use, for each identity."""
        for identity in identities:
            key = ec.generate_private_key(ec.SECP256R1())
            builder = _builder(_name(identity.user, identity.groups), key.public_key(), self.certificate.subject)
            # As Go writes it: tells an authority from its successor of the same name.
            signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = builder.add_extension(signer, critical=False)
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            if identity.names:
                builder = builder.add_extension(
                    x509.SubjectAlternativeName(alternative_names(identity.names)), critical=False
                )
            _write(self.folder, identity.file, key, builder.sign(self.key, hashes.SHA256()))


def create_authority(folder: Path, file: str) -> Authority:
    """Create an authority of its own root and write its files to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"heavylift test cluster {file}")
    builder = _builder(name, key.public_key(), name).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(usage, critical=True).add_extension(identifier, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    _write(folder, file, key, certificate)
    return Authority(folder, key, certificate)


def create_signing_key(folder: Path, file: str) -> None:
    """Write the key pair that signs service account tokens: ``FILE.key`` and ``FILE.pub``."""
    key = ec.generate_private_key(ec.SECP256R1())
    _write_private(folder / f"{file}.key", _pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{file}.pub").write_bytes(public)


def alternative_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Return host names and IP addresses as certificates hold them."""
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _name(user: str, groups: Iterable[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _builder(subject: x509.Name, public: ec.EllipticCurvePublicKey, issuer: x509.Name) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + LIFETIME)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write(folder: Path, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write_private(folder / f"{file}.key", _pem(key))
    (folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
