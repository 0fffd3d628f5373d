# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Authorities that sign what no real one would."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = 86400
USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


class Authority:
    """One that signs; days count from now."""

    def __init__(self, name: str, ends: float = 1000, signer: Authority | None = None) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        signed = _begun(self.name, (signer or self).name, self._key, -30, ends)
        signed = signed.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = {"digital_signature": False, "content_commitment": False, "key_encipherment": False, "data_encipherment": False}
        more = {"key_agreement": False, "key_cert_sign": True, "crl_sign": True, "encipher_only": False, "decipher_only": False}
        signed = signed.add_extension(x509.KeyUsage(**usage, **more), critical=True)
        self.certificate = _signed(signed, self._key, (signer or self)._key)

    def intermediate(self, ends: float = 500) -> Authority:
        return Authority("between", ends, self)

    def key(self, passphrase: str = "") -> str:
        return _written(self._key, passphrase)

    def sign(
        self,
        names: Sequence[str],
        *,
        begins: float = -1,
        ends: float = 100,
        usage: str = "server",
        bits: int = 0,
        passphrase: str = "",
        chain: bool = False,
    ) -> tuple[str, str]:
        """A certificate and its key, of RSA if it has ``bits``. ``usage`` are words, of USAGES."""
        key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        leaf = _signed(_leaf(_begun(subject, self.name, key, begins, ends), names, usage), key, self._key)
        return leaf + (self.certificate if chain else ""), _written(key, passphrase)

    @classmethod
    def alone(cls, names: Sequence[str]) -> tuple[str, str]:
        """A certificate that is signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alone")])
        return _signed(_leaf(_begun(subject, subject, key, -1, 100), names, "server"), key, key), _written(key, "")


def _begun(subject: x509.Name, issuer: x509.Name, key: Any, begins: float, ends: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    # Before the end, whichever that is.
    start = now + timedelta(days=min(begins, ends - 1))
    return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(now + timedelta(days=ends))


def _leaf(builder: x509.CertificateBuilder, names: Sequence[str], usage: str) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([USAGES[each] for each in usage.split()]), critical=False)
    return builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False) if names else builder


def _name(value: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(value))
    except ValueError:
        return x509.DNSName(value)


def _signed(builder: x509.CertificateBuilder, key: Any, signer: ec.EllipticCurvePrivateKey) -> str:
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _written(key: Any, passphrase: str) -> str:
    sealed = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed).decode())
