# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether the certificates of a host are what a client will accept, found by a TLS handshake in memory."""

from __future__ import annotations

import grp
import hashlib
import ipaddress
import os
import re
import ssl
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

CERTIFICATES: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "what": {"type": "str", "default": ""},
        "directory": {"type": "path", "default": "/etc/prefect-tls"},
        "key_what": {"type": "str", "default": "", "no_log": False},
        "names_what": {"type": "str", "default": ""},
        "certificate": {"type": "path"},
        "key": {"type": "path", "no_log": False},
        "source": {"type": "path"},
        "source_key": {"type": "path", "no_log": False},
        "group": {"type": "str"},
        "ca_file": {"type": "path"},
        "ca_what": {"type": "str", "default": ""},
        "ca_content": {"type": "str"},
        "authority": {"type": "str"},
        "names": {"type": "list", "elements": "str", "default": []},
        "purpose": {"type": "str", "choices": ["server", "client"], "default": "server"},
        "client": {"type": "bool", "default": False},
        "required": {"type": "bool", "default": True},
        "renew_days": {"type": "int", "default": 0},
    },
}
"""What the documentation fragment ``certificates`` describes."""

_DAY = 86400
_ROUNDS = 10
_PEM_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# OpenSSL's, which the module ssl names only since Python 3.10, or not at all.
_PARTIAL_CHAIN = 0x80000
_NO_CHECK_TIME = 0x200000
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _OTHER_PURPOSE = 9, 10, 18, 26
_UNKNOWN_ISSUER = (_SELF_SIGNED, 19, 20, 21)
_METRIC, _BEFORE = "prefect_certificate_expiry_timestamp_seconds", "prefect_certificate_renew_before_seconds"


class CertificateError(Exception):
    """Why a certificate is of no use, in a sentence or two with the remedy."""


class Host:
    """The certificates of a host: what was ``found`` of each by name, and the ``problems`` that stop a deployment."""

    def __init__(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        self.found = {each["name"]: examine(each) for each in wanted}
        self._renew_days = max((each["renew_days"] for each in wanted), default=0)
        told = [self.found[each["name"]]["problem"] for each in wanted if each["required"]]
        orphans = [_orphaned(each["ca_file"]) for each in wanted if each.get("ca_content") == "" and Path(each["ca_file"]).is_file()]
        self.problems = list(dict.fromkeys(problem for problem in [*told, *orphans] if problem))

    def unwritten(self, path: str | None) -> str:
        """What the file of metrics should hold; empty where it does, and without a file."""
        text = metrics(self.found, self._renew_days) if path else ""
        return "" if path and Path(path).is_file() and Path(path).read_text(encoding="utf-8") == text else text


def examine(wanted: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """What is wrong with one certificate, its key and its authority, and whether the deployment has to put another one in place.

    ``wanted`` is what CERTIFICATES describes.
    """
    moment = time.time() if now is None else now
    deployed = _deployed(wanted)
    certificate, key = _looked_at(wanted, deployed)
    problems: list[str] = []
    authority = _authority(wanted, problems) if certificate or wanted.get("ca_file") else None
    served = _Served(wanted, certificate, key, moment, problems) if certificate else None
    if served and served.facts and authority and wanted["purpose"] == "server":
        problems.extend(served.refusals(authority))
    facts, signed_until = served.facts if served else None, authority.expires if authority else 0
    expires = facts.not_after if facts else 0 if served else signed_until
    found = {
        "path": certificate or wanted.get("ca_file") or "",
        "fingerprint": facts.fingerprint if facts else "",
        "not_after": _day_and_time(expires) if expires else "",
        "expires": expires,
        "days_left": _days(expires, moment),
        "names": list(facts.names) if facts else [],
        "problem": " ".join(problems),
        "authority_expires": signed_until,
        "authority_days_left": _days(signed_until, moment),
    }
    return {**found, "due": _is_untrusting(wanted) or bool(deployed and _is_due(wanted, found, deployed))}


def metrics(found: Mapping[str, Mapping[str, Any]], renew_days: int) -> str:
    """The ends of the certificates in Prometheus's format, and how long before them a new one is due; empty without any."""
    lines = [
        f'{_METRIC}{{name="{name}",path="{_label(each["path"])}"}} {each["expires"]}'
        for name, each in sorted(found.items())
        if each["expires"]
    ]
    head = [f"# HELP {_METRIC} When a certificate that this host has ends.", f"# TYPE {_METRIC} gauge"]
    before = [f"# HELP {_BEFORE} How long before its end a deployment replaces a certificate.", f"# TYPE {_BEFORE} gauge"]
    before += [f"{_BEFORE} {renew_days * _DAY}"]
    return "\n".join([*head, *lines, *before * bool(renew_days), ""]) if lines else ""


def read_pem(path: str, what: str, kind: str) -> str:
    """The text of a file in PEM."""
    if not path:
        raise CertificateError(f"No file is given{what}.")
    try:
        content = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise CertificateError(f"{path}{what} is missing. Put it there, or correct the path.") from None
    except OSError as error:
        raise CertificateError(f"{path}{what} cannot be read: {error.strerror}.") from None
    if not re.search(f"-----BEGIN [A-Z ]*{kind}-----", content):
        raise CertificateError(f"{path}{what} is not PEM: there is no line -----BEGIN {kind}----- in it.")
    return content


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends, server and client, of a connection between two contexts, made in memory. Raises what the first to refuse says."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _round in range(_ROUNDS):
        done = _is_done(asking)
        if _is_done(served) and done:
            return served, asking
    raise ssl.SSLError("the handshake does not end")


class _Authority(NamedTuple):
    """Who has to have signed: the certificates (None for those that the system trusts), and when it ends (0 where it is not our own)."""

    certificates: str | None
    shown: str
    expires: int


class _Facts(NamedTuple):
    """What a certificate says of itself. Times are seconds since the epoch."""

    not_before: int
    not_after: int
    names: tuple[str, ...]
    fingerprint: str


class _Served:
    """A certificate and its key as a server, or a client, shows them. ``facts`` is None where they cannot be used at all."""

    facts: _Facts | None = None

    def __init__(self, wanted: Mapping[str, Any], certificate: str, key: str, now: float, problems: list[str]) -> None:
        self._wanted = wanted
        self._certificate, self._key = f"{certificate}{_shown(wanted, 'what')}", f"{key}{_shown(wanted, 'key_what')}"
        self._files = certificate, key
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            pem = read_pem(certificate, _shown(wanted, "what"), "CERTIFICATE")
            if "ENCRYPTED" in read_pem(key, _shown(wanted, "key_what"), "PRIVATE KEY"):
                raise CertificateError(f"{self._key} is encrypted, and no service can be asked for its passphrase. Store it without one.")
            self._load()
            self.facts = self._read(_PEM_CERTIFICATE.findall(pem))
        except CertificateError as error:
            problems.append(str(error))
            return
        self._out_of_time = self._time_problems(self.facts, now)
        problems += self._out_of_time + self._mode_problems(key)

    def _load(self) -> None:
        try:
            self._context.load_cert_chain(*self._files)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                why = f"{self._key} is not the key of {self._certificate}. Put the key there that the certificate is for."
            else:
                why = f"{self._certificate} and {self._key} cannot be used: {_reason(error)}."
            raise CertificateError(why) from None

    def _read(self, blocks: Sequence[str]) -> _Facts:
        """By one that trusts the certificate because it is that certificate, at whatever time."""
        # A server asks its client for one in the same words.
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if self._wanted["purpose"] == "server" else ssl.PROTOCOL_TLS_SERVER)
        asking.check_hostname = False
        asking.verify_mode = ssl.CERT_REQUIRED
        asking.verify_flags = ssl.VerifyFlags(_PARTIAL_CHAIN | _NO_CHECK_TIME)
        try:
            asking.load_verify_locations(cadata=blocks[0])
            told = self._shown_to(asking)
        except (ssl.SSLError, ValueError, IndexError) as error:
            raise CertificateError(f"{self._certificate} cannot be used: {_reason(error)}.") from None
        return _Facts(
            int(ssl.cert_time_to_seconds(told["notBefore"])),
            int(ssl.cert_time_to_seconds(told["notAfter"])),
            tuple(_plain(value) for _kind, value in told.get("subjectAltName", ())),
            hashlib.sha256(b"".join(ssl.PEM_cert_to_DER_cert(block) for block in blocks)).hexdigest(),
        )

    def _shown_to(self, asking: ssl.SSLContext) -> Mapping[str, Any]:
        """What the other end is shown."""
        if self._wanted["purpose"] == "server":
            return handshake(self._context, asking)[1].getpeercert() or {}
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        for context in (asking, client):
            context.load_cert_chain(*self._files)
        return handshake(asking, client)[0].getpeercert() or {}

    def _time_problems(self, facts: _Facts, now: float) -> list[str]:
        if facts.not_after <= now:
            return [f"{self._certificate} has expired, on {_day_and_time(facts.not_after)[:10]}. Renew it."]
        if facts.not_before > now:
            day = _day_and_time(facts.not_before)[:10]
            return [f"{self._certificate} is not valid before {day}. Use another one, or correct the clock of the host."]
        return []

    def _mode_problems(self, key: str) -> list[str]:
        mode = stat.S_IMODE(Path(key).stat().st_mode)
        if not mode & 0o037:
            return []
        return [f"{self._key} has the mode {mode:04o}: others than its owner and its group may read or change it. Set it to 0640 or less."]

    def refusals(self, authority: _Authority) -> Iterator[str]:
        """Why clients that trust an authority, and look for the names, will not take it."""
        client = ssl.create_default_context(cadata=authority.certificates)
        client.check_hostname = False
        if self._out_of_time:  # which was said
            client.verify_flags |= _NO_CHECK_TIME
        try:
            handshake(self._context, client)
        except ssl.SSLCertVerificationError as error:
            yield self._distrust(authority, error)
            return
        except ssl.SSLError as error:
            yield f"{self._certificate} cannot be served: {_reason(error)}."
            return
        client.check_hostname = True
        names = self.facts.names if self.facts else ()
        missing = [name for name in dict.fromkeys(self._wanted["names"]) if _plain(name) not in names and not self._is_named(client, name)]
        if missing:
            has = f"it names {', '.join(names)}" if names else "it has no subjectAltName"
            other = self._wanted.get("names_what") or ""
            remedy = f"Use one that does{f', or set {other} to a name that it has' if other else ''}."
            yield f"{self._certificate} does not name {', '.join(missing)}, which clients ask for: {has}. {remedy}"
        if self._wanted.get("client"):
            yield from self._client_refusals(authority)

    def _client_refusals(self, authority: _Authority) -> Iterator[str]:
        """Why other servers will not take it from their client."""
        asking = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.certificates)
        asking.verify_mode = ssl.CERT_REQUIRED
        asking.load_cert_chain(*self._files)
        if self._out_of_time:
            asking.verify_flags |= _NO_CHECK_TIME
        if authority.certificates is None:
            asking.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        client.load_cert_chain(*self._files)
        try:
            handshake(asking, client)
        except ssl.SSLError as error:
            remedy = " Use one with the extended key usage clientAuth." if getattr(error, "verify_code", 0) == _OTHER_PURPOSE else ""
            yield f"{self._certificate} is refused by servers that it is shown to as a client's: {_reason(error)}.{remedy}"

    def _distrust(self, authority: _Authority, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in _UNKNOWN_ISSUER:
            signer = "itself" if error.verify_code == _SELF_SIGNED else "another authority"
            return (
                f"{self._certificate} is signed by {signer}, not by {authority.shown}. Use one that is, followed by the certificates"
                " between the two, or name its authority."
            )
        if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            return f"{self._certificate}: a certificate between it and {authority.shown} is out of its time. Renew that one."
        return f"{self._certificate} is refused by clients: {_reason(error)}."

    def _is_named(self, client: ssl.SSLContext, name: str) -> bool:
        try:
            # What a certificate for any name there covers.
            handshake(self._context, client, name.replace("*", "any", 1) if name.startswith("*.") else _plain(name))
        except (ssl.SSLError, ValueError):  # a name that is none is a ValueError
            return False
        return True


def _deployed(wanted: Mapping[str, Any]) -> tuple[str, str] | None:
    """The certificate and key that the deployment puts in place itself."""
    if not wanted.get("group"):
        return None
    base = f"{wanted['directory']}/{wanted['name']}"
    return wanted.get("certificate") or f"{base}.crt", wanted.get("key") or f"{base}.key"


def _looked_at(wanted: Mapping[str, Any], deployed: tuple[str, str] | None) -> tuple[str, str]:
    """The certificate and key that are looked at; empty where there are none."""
    if wanted.get("source"):
        return wanted["source"], wanted.get("source_key") or ""
    return deployed or (wanted.get("certificate") or "", wanted.get("key") or "")


def _authority(wanted: Mapping[str, Any], problems: list[str]) -> _Authority | None:
    """None where it cannot be read, which is then one of the problems."""
    path, content, what = wanted.get("ca_file") or "", wanted.get("authority") or "", _shown(wanted, "ca_what")
    if not content and not path:
        return _Authority(None, "an authority that the system trusts", 0)
    try:
        # Only the certificates: the comments of a bundle may be in any language.
        certificates = "\n".join(_PEM_CERTIFICATE.findall(content or read_pem(path, what, "CERTIFICATE")))
        known = ssl.create_default_context(cadata=certificates).get_ca_certs()
    except CertificateError as error:
        problems.append(str(error))
        return None
    except (ssl.SSLError, ValueError):
        problems.append(f"{path}{what} is not a certificate in PEM. Put the certificates of the authority there.")
        return None
    ends = [int(ssl.cert_time_to_seconds(str(each["notAfter"]))) for each in known]
    return _Authority(certificates, f"the authority in {path}{what}", min(ends, default=0) if content else 0)


def _is_untrusting(wanted: Mapping[str, Any]) -> bool:
    """Whether the file of the authorities does not hold what it should."""
    if wanted.get("ca_content") is None:
        return False
    path = Path(wanted["ca_file"])
    return not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != wanted["ca_content"]


def _is_due(wanted: Mapping[str, Any], found: Mapping[str, Any], deployed: tuple[str, str]) -> bool:
    if wanted.get("source"):
        pairs = zip(_looked_at(wanted, deployed), deployed)
        if found["problem"]:  # there is nothing to copy
            return False
        return not _is_kept(wanted, deployed) or any(Path(one).read_bytes() != Path(other).read_bytes() for one, other in pairs)
    # A new one would not last longer than its authority.
    outlived = found["expires"] + _DAY < found["authority_expires"]
    return bool(found["problem"]) or not _is_kept(wanted, deployed) or (found["days_left"] < wanted["renew_days"] and outlived)


def _is_kept(wanted: Mapping[str, Any], deployed: tuple[str, str]) -> bool:
    """Whether the files are there, with the owner, the group and the modes that they were given."""
    try:
        certificate, key = (Path(path).stat() for path in deployed)
        group = grp.getgrnam(wanted["group"]).gr_gid
    except (OSError, KeyError):
        return False
    modes = stat.S_IMODE(certificate.st_mode), stat.S_IMODE(key.st_mode)
    return modes == (0o644, 0o640) and key.st_gid == group and certificate.st_uid == key.st_uid == os.geteuid()


def _orphaned(ca_file: str) -> str:
    return (
        f"This host trusts the private authority in {ca_file}, and tls_ca_certificate is missing where Ansible runs. Bring it and"
        " tls_ca_key there from where they were made, or from their copy. To begin with another authority, which no client trusts yet,"
        f" remove {ca_file} from every host."
    )


def _is_done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _plain(name: str) -> str:
    """A name as it is compared: addresses in their short form."""
    try:
        return str(ipaddress.ip_address(name.strip().strip("[]")))
    except ValueError:
        return name.lower()


def _shown(wanted: Mapping[str, Any], what: str) -> str:
    return f" ({wanted[what]})" if wanted.get(what) else ""


def _reason(error: Exception) -> str:
    told = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
    return str(told).replace("_", " ").lower()


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _days(end: int, now: float) -> int:
    return int((end - now) / _DAY) if end else 0


def _day_and_time(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
