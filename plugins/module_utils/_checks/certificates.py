# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of the certificates, and with the private authority, whose files are where this runs."""

from __future__ import annotations

import os
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.certificates import CertificateError, read_pem

_AGAIN = (
    "Move it and tls_ca_key away, remove ca.crt in tls_directory from every host, and run the playbook site, which makes another authority."
    " While one is still good, the playbook rotate replaces it."
)
_WIRES = ("tls_postgres", "tls_redis", "tls_api", "tls_nginx", "tls_exporters", "tls_monitoring")


def certificates(variables: Mapping[str, Any]) -> Iterator[str]:
    """``common_certificates_due`` is whether any host needs a new one."""
    on = [name for name in _WIRES if boolean(variables[name])]
    mode = text(variables["tls_mode"]).lower()
    if mode == "private_ca":
        yield from _days(variables)
        yield from _authority(variables)
    elif mode == "provided":
        lacking = [name for name in ("tls_certificate", "tls_certificate_key") if not text(variables[name])]
        if on and lacking:
            yield f"tls_mode is provided, and {' and '.join(lacking)} is not set. Give the path that it has on each host."
    elif on:
        yield (
            f"{' and '.join(on)} is true, and tls_mode is off, so that there is no certificate for it. Leave it out, or set tls_mode to"
            " private_ca or provided."
        )


def _days(variables: Mapping[str, Any]) -> Iterator[str]:
    renew, days, authority = (int(variables[name]) for name in ("tls_renew_days", "tls_days", "tls_ca_days"))
    if days >= authority:
        yield f"tls_days is {days} and tls_ca_days is {authority}; no certificate may outlive its authority. Make tls_days less."
    if renew >= days:
        yield f"tls_renew_days is {renew} and tls_days is {days}; every run would make new certificates. Make tls_renew_days less."


def _authority(variables: Mapping[str, Any]) -> Iterator[str]:
    certificate, key = (Path(text(variables[name])).expanduser() for name in ("tls_ca_certificate", "tls_ca_key"))
    passphrase = text(variables["tls_ca_passphrase"])
    if not certificate.exists():
        yield from _unwritable({"tls_ca_certificate": certificate, "tls_ca_key": key})
    elif key.exists() or variables["common_certificates_due"]:
        try:
            _load(certificate, key, passphrase)
        except CertificateError as error:
            yield f"Where Ansible runs: {error}"


def _unwritable(paths: Mapping[str, Path]) -> Iterator[str]:
    for name, path in paths.items():
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            yield (
                f"The private authority cannot be made in {path.parent}: {folder}, where Ansible runs, is not writable for its user."
                f" Set {name} to a path that is."
            )


def _load(certificate: Path, key: Path, passphrase: str) -> None:
    """Raises CertificateError if certificates cannot be signed with these."""
    read_pem(str(certificate), " (tls_ca_certificate)", "CERTIFICATE")
    sealed = "ENCRYPTED" in read_pem(str(key), " (tls_ca_key)", "PRIVATE KEY")
    if sealed and not passphrase:
        raise CertificateError(f"{key} (tls_ca_key) is encrypted, and tls_ca_passphrase is not set. Set it.")
    if passphrase and not sealed:
        raise CertificateError(
            f"{key} (tls_ca_key) is not encrypted, and tls_ca_passphrase is set. Leave that out, or encrypt the key with it."
        )
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        raise CertificateError(f"{key} (tls_ca_key) has the mode {mode:04o}, so that others may read it. Set it to 0600.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # Without a function that answers, OpenSSL would ask the terminal.
        context.load_cert_chain(certificate, key, password=lambda: passphrase)
    except ssl.SSLError as error:
        raise CertificateError(_why(error, certificate, key, sealed)) from None
    except ValueError:
        raise CertificateError("tls_ca_passphrase is longer than 1024 bytes. Choose a shorter one.") from None
    context.load_verify_locations(certificate)
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()]
    if not ends:
        raise CertificateError(f"{certificate} (tls_ca_certificate) is not the certificate of an authority: it says CA:FALSE.")
    if min(ends) <= time.time():
        raise CertificateError(f"{certificate} (tls_ca_certificate) has expired. {_AGAIN}")


def _why(error: ssl.SSLError, certificate: Path, key: Path, sealed: bool) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key} (tls_ca_key) is not the key of {certificate} (tls_ca_certificate). Bring the two there that were made together."
    if sealed:
        return f"tls_ca_passphrase is not the passphrase of {key} (tls_ca_key)."
    why = (error.reason or str(error)).replace("_", " ").lower()
    return f"{certificate} (tls_ca_certificate) and {key} (tls_ca_key) cannot be used: {why}."
