# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every way in which a certificate is of no use, each with a certificate that is of no use in that way."""

from __future__ import annotations

import grp
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.certificates import Host, examine, handshake, metrics
from ansible_collections.selfhosted.prefect.tests.unit.plugins.pki import DAY, Authority

CA = Authority("our authority")
NAMES = ["api1", "10.0.3.4", "localhost", "127.0.0.1", "::1"]
Place = Callable[..., dict[str, Any]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Puts a certificate, its key and its authority into files, and returns the entry for them, with what is given in place of its own."""

    def placed(leaf: tuple[str, str] | None = None, **more: Any) -> dict[str, Any]:
        certificate, key = leaf or CA.sign(NAMES)
        files = {"a.crt": certificate, "a.key": key, "ca.crt": CA.certificate}
        for name, content in files.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        (tmp_path / "a.key").chmod(0o640)
        paths = {"certificate": str(tmp_path / "a.crt"), "key": str(tmp_path / "a.key"), "ca_file": str(tmp_path / "ca.crt")}
        words = {"what": "tls_certificate", "key_what": "tls_certificate_key", "ca_what": "tls_ca_file"}
        return {
            "name": "api",
            "directory": str(tmp_path),
            "names": NAMES,
            "purpose": "server",
            "required": True,
            "renew_days": 0,
            **paths,
            **words,
            **more,
        }

    return placed


def test_one_that_is_good(place: Place) -> None:
    found = examine(place())
    assert found["problem"] == ""
    assert found["names"] == NAMES
    assert found["days_left"] == 99
    assert found["not_after"].endswith("Z")
    assert len(found["fingerprint"]) == 64
    assert found["due"] is False
    assert examine(place(CA.sign(NAMES)))["fingerprint"] != found["fingerprint"]


def replace(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content, encoding="utf-8")

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def mode(name: str, bits: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).chmod(bits)


def folder_at(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


BROKEN = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("leaf", "change", "said"),
    [
        (lambda: CA.sign(NAMES, begins=-20, ends=-10), None, "{a.crt} (tls_certificate) has expired, on 20"),
        (lambda: CA.sign(NAMES, begins=10, ends=20), None, "{a.crt} (tls_certificate) is not valid before 20"),
        (
            lambda: Authority("our authority").sign(NAMES),
            None,
            "{a.crt} (tls_certificate) is signed by another authority, not by the authority in {ca.crt} (tls_ca_file)",
        ),
        (lambda: Authority("stranger").sign(NAMES), None, "is signed by another authority"),
        (lambda: Authority.alone(NAMES), None, "{a.crt} (tls_certificate) is signed by itself, not by the authority in {ca.crt}"),
        (
            lambda: (CA.sign(NAMES)[0], CA.sign(NAMES)[1]),
            None,
            "{a.key} (tls_certificate_key) is not the key of {a.crt} (tls_certificate)",
        ),
        (
            lambda: CA.sign(["api1", "localhost"]),
            None,
            "does not name 10.0.3.4, 127.0.0.1, ::1, which clients ask for: it names api1, localhost",
        ),
        (
            lambda: CA.sign([]),
            None,
            "does not name api1, 10.0.3.4, localhost, 127.0.0.1, ::1, which clients ask for: it has no subjectAltName",
        ),
        (lambda: CA.sign(["*.example.com", *NAMES[1:]]), None, "does not name api1, which clients ask for"),
        (lambda: CA.sign(NAMES, usage="client"), None, "{a.crt} (tls_certificate) cannot be used: un"),
        (lambda: CA.intermediate().sign(NAMES), None, "followed by the certificates between the two"),
        (lambda: CA.intermediate(ends=-1).sign(NAMES, chain=True), None, "a certificate between it and the authority in {ca.crt}"),
        (
            lambda: CA.sign(NAMES, bits=1024),
            None,
            "{a.crt} (tls_certificate) and {a.key} (tls_certificate_key) cannot be used: ee key too small",
        ),
        (lambda: CA.sign(NAMES, passphrase="x"), None, "{a.key} (tls_certificate_key) is encrypted"),
        (None, remove("a.crt"), "{a.crt} (tls_certificate) is missing"),
        (None, remove("a.key"), "{a.key} (tls_certificate_key) is missing"),
        (None, remove("ca.crt"), "{ca.crt} (tls_ca_file) is missing"),
        (None, folder_at("a.crt"), "{a.crt} (tls_certificate) cannot be read: Is a directory"),
        (None, replace("a.crt", "x"), "{a.crt} (tls_certificate) is not PEM"),
        (None, replace("a.key", "x"), "{a.key} (tls_certificate_key) is not PEM"),
        (None, replace("ca.crt", "x"), "{ca.crt} (tls_ca_file) is not PEM"),
        (None, replace("a.crt", BROKEN), "{a.crt} (tls_certificate) and {a.key} (tls_certificate_key) cannot be used"),
        (None, replace("ca.crt", BROKEN), "{ca.crt} (tls_ca_file) is not a certificate in PEM"),
        (None, mode("a.key", 0o644), "{a.key} (tls_certificate_key) has the mode 0644"),
        (None, mode("a.key", 0o660), "{a.key} (tls_certificate_key) has the mode 0660"),
    ],
)
def test_each_reason(
    place: Place,
    tmp_path: Path,
    leaf: Callable[..., tuple[str, str]] | None,
    change: Callable[[Path], None] | None,
    said: str,
) -> None:
    wanted = place(leaf() if leaf else None)
    if change:
        change(tmp_path)
    host = Host([wanted])
    for name in ("a.crt", "a.key", "ca.crt"):
        said = said.replace(f"{{{name}}}", str(tmp_path / name))
    assert said in host.found["api"]["problem"]
    assert host.problems == [host.found["api"]["problem"]]
    assert Host([{**wanted, "required": False}]).problems == []


@pytest.mark.parametrize(
    "leaf",
    [
        lambda: CA.sign(["API1", *NAMES[1:]]),
        lambda: CA.intermediate().sign(NAMES, chain=True),
        lambda: CA.sign(NAMES, bits=2048),
    ],
    ids=["case", "chain", "rsa"],
)
def test_others_that_are_good(place: Place, leaf: Callable[..., tuple[str, str]]) -> None:
    assert examine(place(leaf()))["problem"] == ""


@pytest.mark.parametrize("bits", [0o400, 0o600, 0o440, 0o640])
def test_modes_of_keys_that_will_do(place: Place, tmp_path: Path, bits: int) -> None:
    wanted = place()
    (tmp_path / "a.key").chmod(bits)
    assert examine(wanted)["problem"] == ""


@pytest.mark.parametrize(
    ("names", "asked", "good"),
    [
        (["*.example.com"], "prefect.example.com", True),
        (["*.example.com"], "*.example.com", True),
        (["*.example.com"], "example.com", False),
        (["prefect.example.com"], "*.example.com", False),
        (["prefect.example.com"], "Prefect.Example.COM", True),
        (["fd00::2"], "fd00:0::2", True),
        (["fd00::2"], "[fd00::2]", True),
        (["fd00::2"], "fd00::3", False),
        (["api_1"], "api_1", True),
        (["api1"], "a..b", False),
        (["api1"], "x" * 70, False),
    ],
)
def test_names(place: Place, names: list[str], asked: str, good: bool) -> None:
    assert (examine(place(CA.sign(names), names=[asked]))["problem"] == "") is good


def test_which_variable_gives_the_name(place: Place) -> None:
    found = examine(place(names=["elsewhere"], names_what="nginx_server_name or prefect_api_url"))
    assert "Use one that does, or set nginx_server_name or prefect_api_url to a name that it has." in found["problem"]


def test_both_reasons(place: Place) -> None:
    problem = examine(place(Authority("stranger").sign(NAMES, begins=-20, ends=-10)))["problem"]
    assert "has expired" in problem
    assert "is signed by another authority" in problem


def test_a_bundle_with_comments(place: Place, tmp_path: Path) -> None:
    wanted = place()
    (tmp_path / "ca.crt").write_text(f"# Zürich\n{Authority('other').certificate}# uns\n{CA.certificate}", encoding="utf-8")
    assert examine(wanted)["problem"] == ""


def test_the_authorities_of_the_system(place: Place) -> None:
    assert "not by an authority that the system trusts" in examine(place(ca_file=""))["problem"]


@pytest.mark.parametrize(
    ("leaf", "change", "said"),
    [
        ({"usage": "client"}, None, ""),
        ({"usage": "server"}, None, "unsuitable certificate purpose"),
        ({"usage": "client", "begins": -20, "ends": -1}, None, "has expired"),
        ({"usage": "client"}, remove("a.key"), "is missing"),
        ({"usage": "client"}, remove("ca.crt"), "is missing"),
    ],
)
def test_a_client_certificate(place: Place, leaf: dict[str, Any], change: Callable[[Path], None] | None, said: str, tmp_path: Path) -> None:
    wanted = place(Authority("of clients").sign([], **leaf), purpose="client")
    if change:
        change(tmp_path)
    problem = examine(wanted)["problem"]
    assert said in problem
    assert bool(problem) is bool(said)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        ({"usage": "server client"}, ""),
        ({"usage": "server"}, "is refused by servers that it is shown to as a client's: unsuitable certificate purpose. Use one with"),
        ({"usage": "server", "begins": -20, "ends": -1}, "unsuitable certificate purpose"),
    ],
)
def test_a_server_that_is_a_client_too(place: Place, leaf: dict[str, Any], said: str) -> None:
    signed = CA.sign(NAMES, **leaf)
    problem = examine(place(signed, client=True))["problem"]
    assert said in problem
    assert bool(problem) is bool(said)
    assert "unsuitable" not in examine(place(signed))["problem"]


def test_a_client_of_the_authorities_of_the_system(place: Place) -> None:
    assert "not by an authority that the system trusts" in examine(place(client=True, ca_file=""))["problem"]


def test_an_authority_by_itself(place: Place, tmp_path: Path) -> None:
    place()
    entry = {"name": "ca", "purpose": "client", "required": True, "renew_days": 0, "names": [], "ca_what": "tls_ca_file"}
    assert Host([{**entry, "ca_file": str(tmp_path / "ca.crt")}]).problems == []
    assert "(tls_ca_file) is missing" in Host([{**entry, "ca_file": str(tmp_path / "none")}]).problems[0]


# --- what the deployment puts in place ---


@pytest.fixture
def own(place: Place, tmp_path: Path) -> Place:
    """As ``place``, of a certificate of the private authority as the role leaves it."""

    def placed(leaf: tuple[str, str] | None = None, **more: Any) -> dict[str, Any]:
        group = grp.getgrgid((tmp_path).stat().st_gid).gr_name
        entry = place(leaf, group=group, required=False, authority=CA.certificate, renew_days=30, **more)
        (tmp_path / "a.crt").chmod(0o644)
        return entry

    return placed


@pytest.mark.parametrize(
    ("leaf", "change", "due"),
    [
        (None, None, False),
        (lambda: CA.sign(NAMES, ends=31), None, False),
        (lambda: CA.sign(NAMES, ends=29), None, True),
        (lambda: CA.sign(NAMES[1:]), None, True),
        (lambda: Authority("the one before").sign(NAMES), None, True),
        (None, remove("a.crt"), True),
        (None, remove("a.key"), True),
        (None, remove("ca.crt"), False),
        (None, mode("a.key", 0o600), True),
        (None, mode("a.crt", 0o600), True),
    ],
)
def test_what_is_due(
    own: Place, tmp_path: Path, leaf: Callable[..., tuple[str, str]] | None, change: Callable[[Path], None] | None, due: bool
) -> None:
    wanted = own(leaf() if leaf else None)
    if change:
        change(tmp_path)
    host = Host([wanted])
    assert host.found["api"]["due"] is due
    assert host.problems == []


def test_none_is_renewed_that_would_not_last_longer(own: Place) -> None:
    short = Authority("that ends soon", ends=20)
    found = examine({**own(short.sign(NAMES, ends=20)), "authority": short.certificate})
    assert (found["due"], found["days_left"], found["authority_days_left"]) == (False, 19, 19)


def test_a_group_that_is_not_there_yet(own: Place) -> None:
    assert examine({**own(), "group": "no-such-group"})["due"] is True


def test_the_name_is_that_of_the_files(own: Place, tmp_path: Path) -> None:
    entry = {**own(), "name": "a", "certificate": None, "key": None}
    assert (examine(entry)["path"], examine(entry)["due"]) == (str(tmp_path / "a.crt"), False)


def test_a_copy(own: Place, tmp_path: Path) -> None:
    entry = {**own(), "source": str(tmp_path / "given.crt"), "source_key": str(tmp_path / "given.key"), "authority": None}
    assert "given.crt (tls_certificate) is missing" in examine(entry)["problem"]
    for name in ("crt", "key"):
        (tmp_path / f"given.{name}").write_bytes((tmp_path / f"a.{name}").read_bytes())
    (tmp_path / "given.key").chmod(0o600)
    assert (examine(entry)["problem"], examine(entry)["due"]) == ("", False)
    certificate, key = CA.sign(NAMES)
    (tmp_path / "given.crt").write_text(certificate, encoding="utf-8")
    (tmp_path / "given.key").write_text(key, encoding="utf-8")
    assert (examine(entry)["problem"], examine(entry)["due"]) == ("", True)


@pytest.mark.parametrize(
    ("content", "kept", "due", "problem"),
    [
        ("x", "x", False, ""),
        ("x", "y", True, ""),
        ("x", None, True, ""),
        ("", None, True, ""),
        ("", "x", True, "tls_ca_certificate is missing where Ansible runs"),
    ],
)
def test_the_authorities_that_a_host_trusts(tmp_path: Path, content: str, kept: str | None, due: bool, problem: str) -> None:
    if kept is not None:
        (tmp_path / "ca.crt").write_text(kept, encoding="utf-8")
    authority = CA.certificate if content else ""
    entry = {"name": "ca", "purpose": "client", "required": False, "renew_days": 0, "names": [], "ca_file": str(tmp_path / "ca.crt")}
    host = Host([{**entry, "ca_content": content, "authority": authority}])
    assert host.found["ca"]["due"] is due
    assert problem in "".join(host.problems)
    assert bool(host.problems) is bool(problem)
    assert bool(host.found["ca"]["expires"]) is bool(content)


# --- for Prometheus ---


def test_metrics() -> None:
    found = {"b": {"path": 'x"\\', "expires": 7}, "a": {"path": "/a.crt", "expires": 9}, "c": {"path": "/c", "expires": 0}}
    assert metrics(found, 0).splitlines()[2:] == [
        'prefect_certificate_expiry_timestamp_seconds{name="a",path="/a.crt"} 9',
        'prefect_certificate_expiry_timestamp_seconds{name="b",path="x\\"\\\\"} 7',
    ]
    assert metrics(found, 30).splitlines()[-1] == "prefect_certificate_renew_before_seconds 2592000"
    assert metrics({}, 30) == ""


def test_what_is_unwritten(place: Place, tmp_path: Path) -> None:
    host = Host([place()])
    file = tmp_path / "x.prom"
    assert host.unwritten(None) == ""
    text = host.unwritten(str(file))
    assert "api" in text
    file.write_text(text, encoding="utf-8")
    assert host.unwritten(str(file)) == ""


def test_the_handshake_is_a_real_one(place: Place) -> None:
    wanted = place()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(wanted["certificate"], wanted["key"])
    client = ssl.create_default_context(cadata=CA.certificate)
    served, asking = handshake(server, client, "api1")
    assert served.version() == asking.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        handshake(server, client, "api2")


def test_times_are_of_the_moment(place: Place) -> None:
    found = examine(place(), now=time.time() + 200 * DAY)
    assert "has expired" in found["problem"]
    assert found["days_left"] < 0
    assert Path(found["path"]).name == "a.crt"
