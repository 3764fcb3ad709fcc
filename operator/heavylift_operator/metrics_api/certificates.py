"""Our own certificate authority and serving certificate: what the Secret holds, and what it should hold next; pure.

Everything that is trusted stands in the bundle before anything is signed by it, and stays there while anything signed
by it may still be served. Two replicas make the same step from the same Secret; whichever writes second reads again.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SLACK: Final = dt.timedelta(hours=1)
"""How far certificates reach into the past, for clocks that are set back."""
LEAF: Final = "tls"
AUTHORITY: Final = "ca"
UPCOMING: Final = "ca-next"
FORMER: Final = "ca-old"
_SIZE_MAX: Final = 100_000
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error)


@dataclass(frozen=True, slots=True)
class Policy:
    """How long things are good for."""

    names: tuple[str, ...]
    """DNS names the certificate must be good for; the first is what the API server asks for."""
    settle: dt.timedelta = dt.timedelta(minutes=10)
    """Time for every replica and every API server to hear of a change before the next one builds on it."""
    authority: dt.timedelta = dt.timedelta(days=5 * 365)
    leaf: dt.timedelta = dt.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> str:
        """The certificate as PEM."""
        return pem(self.certificate)

    @property
    def key_pem(self) -> str:
        """The key as PEM, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


@dataclass(frozen=True, slots=True)
class Material:
    """What a Secret of ours holds; a part that is missing or cannot be read is None."""

    authority: Pair | None = None
    leaf: Pair | None = None
    upcoming: Pair | None = None
    """The authority after this one: trusted already, signs nothing yet."""
    former: x509.Certificate | None = None
    """The authority before this one: signs no more, trusted still."""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Return what is in a Secret's ``data``."""
        return cls(
            authority=_pair(data, AUTHORITY),
            leaf=_pair(data, LEAF),
            upcoming=_pair(data, UPCOMING),
            former=_certificate(_value(data, f"{FORMER}.crt")),
        )

    @property
    def data(self) -> dict[str, str]:
        """The Secret's ``data``; keys that are not in it are to be removed."""
        found: dict[str, str] = {}
        for name, pair in ((AUTHORITY, self.authority), (LEAF, self.leaf), (UPCOMING, self.upcoming)):
            if pair is not None:
                found |= {f"{name}.crt": pair.certificate_pem, f"{name}.key": pair.key_pem}
        if self.former is not None:
            found[f"{FORMER}.crt"] = pem(self.former)
        return {key: base64.b64encode(value.encode()).decode() for key, value in found.items()}

    @property
    def bundle(self) -> str:
        """All authorities to be trusted, as PEM."""
        pairs = [pair.certificate for pair in (self.authority, self.upcoming) if pair is not None]
        return "".join(pem(one) for one in [*pairs, *([self.former] if self.former else [])])


def step(held: Material, policy: Policy, now: dt.datetime, *, known: str | None = None) -> tuple[Material, str]:
    """Return what the Secret should hold next and why in words; the same and nothing when all is well.

    One step at a time: whoever writes it reads again and asks for the next.

    Args:
        held: what it holds.
        policy: for how long, and for which names.
        now: the API server's time.
        known: the authorities the API server trusts, PEM; one it does not know never signs. None = it does not ask us.
    """
    authority = held.authority
    if authority is None or not _signs(authority.certificate, now):
        fresh = new_authority(policy, now)
        return Material(fresh, new_leaf(fresh, policy, now)), "there is no authority that can sign: a new one is made"
    if held.upcoming is not None and _announced(held.upcoming, policy, now, known):
        promoted = held.upcoming
        return (
            Material(promoted, new_leaf(promoted, policy, now), None, authority.certificate),
            "the new authority is known everywhere: it signs from now on",
        )
    if why := _leaf_trouble(held.leaf, authority.certificate, policy, now):
        return replace(held, leaf=new_leaf(authority, policy, now)), why
    if held.former is not None and held.leaf is not None and _age(held.leaf.certificate, now) >= policy.settle:
        return replace(held, former=None), "nothing the former authority signed is served any more"
    if held.upcoming is None and _left(authority.certificate, now) < policy.authority / 5:
        return replace(held, upcoming=new_authority(policy, now)), "the authority ends soon: the next one is announced"
    return held, ""


def _announced(upcoming: Pair, policy: Policy, now: dt.datetime, known: str | None) -> bool:
    trusted = known is None or upcoming.certificate_pem in known
    return trusted and _age(upcoming.certificate, now) >= policy.settle


def _leaf_trouble(leaf: Pair | None, authority: x509.Certificate, policy: Policy, now: dt.datetime) -> str:
    if leaf is None:
        return "there is no serving certificate"
    try:
        leaf.certificate.verify_directly_issued_by(authority)
    except (*_UNREADABLE, InvalidSignature):
        return "the serving certificate is not the authority's"
    if not set(policy.names) <= set(names_of(leaf.certificate)):
        return "the serving certificate is for other names"
    if _left(leaf.certificate, now) < policy.leaf / 3 or _age(leaf.certificate, now) < -SLACK:
        return "the serving certificate ends soon"
    return ""


def new_authority(policy: Policy, now: dt.datetime) -> Pair:
    """Return an authority of its own root, which may sign servers' certificates and nothing below."""
    key, serial = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
    name = _name(f"heavylift-metrics-api-ca-{serial:x}"[:40])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key, serial, now, policy.authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def new_leaf(authority: Pair, policy: Policy, now: dt.datetime) -> Pair:
    """Return a serving certificate; never good for longer than its authority."""
    key, issuer = ec.generate_private_key(ec.SECP256R1()), authority.certificate
    lifetime = min(policy.leaf, _left(issuer, now))
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name("heavylift-metrics-api"), issuer.subject, key, x509.random_serial_number(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in policy.names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names a certificate is good for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return []
    return found.value.get_values_for_type(x509.DNSName)


def leaf_of(chain: str) -> x509.Certificate | None:
    """Return the first certificate of a PEM chain, None when there is none to read."""
    return _certificate(chain.encode())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: dt.datetime,
    lifetime: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - SLACK)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signs(certificate: x509.Certificate, now: dt.datetime) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return False
    return constraints.ca and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _age(certificate: x509.Certificate, now: dt.datetime) -> dt.timedelta:
    return now - (certificate.not_valid_before_utc + SLACK)


def _left(certificate: x509.Certificate, now: dt.datetime) -> dt.timedelta:
    return certificate.not_valid_after_utc - now


def _value(data: Mapping[str, Any], key: str) -> bytes:
    found = data.get(key)
    try:
        return base64.b64decode(found, validate=True) if isinstance(found, str) and len(found) <= _SIZE_MAX else b""
    except _UNREADABLE:
        return b""


def _pair(data: Mapping[str, Any], name: str) -> Pair | None:
    certificate = _certificate(_value(data, f"{name}.crt"))
    if certificate is None:
        return None
    try:
        key = serialization.load_pem_private_key(_value(data, f"{name}.key"), password=None)
        matches = key.public_key() == certificate.public_key()
    except _UNREADABLE:
        return None
    return Pair(certificate, key) if matches and isinstance(key, ec.EllipticCurvePrivateKey) else None


def _certificate(raw: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(raw) if raw else None
    except _UNREADABLE:
        return None
