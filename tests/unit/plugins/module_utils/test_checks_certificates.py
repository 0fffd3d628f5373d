# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of the certificates, and with an authority in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._checks.certificates import certificates
from ansible_collections.selfhosted.prefect.tests.unit.plugins.pki import Authority

WIRES = ("postgres", "redis", "api", "nginx", "exporters", "monitoring")
SECRET = "geheim"
CA = Authority("ours")
OTHER = Authority("another")
Given = Callable[..., dict[str, Any]]


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """The variables of a site whose authority is there, with what is given in place of its own."""

    def variables(
        certificate: str | None = CA.certificate, key: str | None = CA.key(SECRET), mode: int = 0o600, **more: Any
    ) -> dict[str, Any]:
        for name, content in {"ca.crt": certificate, "ca.key": key}.items():
            if content is not None:
                (tmp_path / name).write_text(content, encoding="utf-8")
                (tmp_path / name).chmod(mode)
        return {
            "tls_mode": "private_ca",
            "tls_ca_certificate": str(tmp_path / "ca.crt"),
            "tls_ca_key": str(tmp_path / "ca.key"),
            "tls_ca_passphrase": SECRET,
            "tls_ca_days": 3650,
            "tls_days": "365",
            "tls_renew_days": 30,
            "tls_certificate": "",
            "tls_certificate_key": "",
            "common_certificates_due": True,
            **{f"tls_{wire}": True for wire in WIRES},
            **more,
        }

    return variables


OFF: dict[str, Any] = {f"tls_{wire}": False for wire in WIRES}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"key": CA.key(), "tls_ca_passphrase": ""},
        {"certificate": None, "key": None},
        {"certificate": None, "key": None, "tls_ca_passphrase": ""},
        # Who may not sign may still run what signs nothing.
        {"key": None, "common_certificates_due": False},
        {"tls_mode": "provided", "tls_certificate": "/a.crt", "tls_certificate_key": "/a.key"},
        {"tls_mode": "provided", **OFF},
        {"tls_mode": "off", **OFF},
        {"tls_mode": False, **OFF},
    ],
)
def test_nothing_wrong(given: Given, changes: dict[str, Any]) -> None:
    assert list(certificates(given(**changes))) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tls_ca_passphrase": "wrong"}, "Where Ansible runs: tls_ca_passphrase is not the passphrase of {key} (tls_ca_key)."),
        ({"tls_ca_passphrase": ""}, "{key} (tls_ca_key) is encrypted, and tls_ca_passphrase is not set."),
        ({"tls_ca_passphrase": "x" * 2000}, "tls_ca_passphrase is longer than 1024 bytes."),
        ({"key": CA.key()}, "{key} (tls_ca_key) is not encrypted, and tls_ca_passphrase is set."),
        ({"key": None}, "{key} (tls_ca_key) is missing."),
        ({"key": OTHER.key(SECRET)}, "{key} (tls_ca_key) is not the key of {certificate} (tls_ca_certificate)."),
        ({"key": "x"}, "{key} (tls_ca_key) is not PEM"),
        ({"key": "$ANSIBLE_VAULT;1.1;AES256\n61"}, "{key} (tls_ca_key) is not PEM"),
        ({"certificate": "x"}, "{certificate} (tls_ca_certificate) is not PEM"),
        ({"certificate": CA.certificate[:60] + CA.certificate[99:], "tls_ca_passphrase": "", "key": CA.key()}, "cannot be used: "),
        ({"mode": 0o640}, "{key} (tls_ca_key) has the mode 0640"),
        (
            {"certificate": OTHER.sign(["a"])[0], "key": None, "leaf": True},
            "{certificate} (tls_ca_certificate) is not the certificate of an authority",
        ),
        ({"tls_days": 3650}, "tls_days is 3650 and tls_ca_days is 3650; no certificate may outlive its authority."),
        ({"tls_renew_days": 365}, "tls_renew_days is 365 and tls_days is 365; every run would make new certificates."),
        ({"tls_mode": "provided"}, "tls_mode is provided, and tls_certificate and tls_certificate_key is not set."),
        ({"tls_mode": "provided", "tls_certificate": "/a"}, "tls_mode is provided, and tls_certificate_key is not set."),
        ({"tls_mode": False, **OFF, "tls_redis": "yes"}, "tls_redis is true, and tls_mode is off"),
    ],
)
def test_each_problem(given: Given, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    if changes.pop("leaf", False):
        changes["certificate"], changes["key"] = OTHER.sign(["a"], passphrase=SECRET)
    found = list(certificates(given(**changes)))
    assert len(found) == 1
    assert said.replace("{key}", str(tmp_path / "ca.key")).replace("{certificate}", str(tmp_path / "ca.crt")) in found[0]
    assert SECRET not in found[0]


def test_a_folder_that_cannot_be_made(given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, _mode: path != tmp_path)
    found = list(certificates(given(certificate=None, key=None, tls_ca_key=str(tmp_path / "new" / "below" / "ca.key"))))
    assert [f"{tmp_path}, where Ansible runs, is not writable" in problem for problem in found] == [True, True]
    assert ["Set tls_ca_certificate" in found[0], "Set tls_ca_key" in found[1]] == [True, True]


def test_an_authority_that_has_ended(given: Given) -> None:
    ended = Authority("that was", ends=-1)
    found = list(certificates(given(certificate=ended.certificate, key=ended.key(SECRET))))
    assert "(tls_ca_certificate) has expired" in found[0]
