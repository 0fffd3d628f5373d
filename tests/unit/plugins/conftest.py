"""What tests of several folders share."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def measured() -> Callable[..., dict[str, Any]]:
    """Makes the measurements of a scenario, with whatever is given in place of its own."""
    return scenario


def scenario(**more: Any) -> dict[str, Any]:
    """A scenario in which a server that was killed at 1000 fails one request and makes three others slow."""
    samples = [[number / 40, 0.05, 1] for number in range(1200)]
    samples += [[9.9, 0.3, 0], [10.0, 1.2, 1], [10.1, 1.3, 1], [10.2, 1.4, 1]]
    timeline = {"began_at": 990.0, "ended": 30.0, "samples": sorted(samples), "events": [[number / 2 for number in range(60)]]}
    failure = {"at": "now", "method": "POST", "path": "/flows/<b>", "what": "reset", "connection": "new"}
    values = {
        "name": "kill_api",
        "title": "kill -9 of one API server",
        "target": "api3",
        "kind": "kill",
        "limits": {"failed": 3, "lost": 0},
        "load": {"timeline": json.dumps(timeline), "acknowledged": 600, "lost": 0, "twice": 0, "failures": [failure]},
        "watch": {
            "scheduler": {"changes": [[999.0, 1002.0], [1012.0, 1017.0]], "silent": [], "ended": 1018.0},
            "flows": {"runs": [{"id": "1", "at": 1001.0, "took": 1.0, "state": "COMPLETED", "problem": ""}], "problem": ""},
        },
        "fault": {"at": 1000.0, "until": 1002.5, "by_itself": True},
    }
    return {**values, **more}


@dataclass(frozen=True)
class Authority:
    """A certificate authority for tests, with a folder of its own; ``certificate`` is its file."""

    folder: Path

    @property
    def certificate(self) -> str:
        return str(self.folder / "ca.crt")

    def issue(self, name: str, names: str) -> tuple[str, str]:
        """A certificate for these names, as OpenSSL writes them (``IP:127.0.0.1``), and its key: the files."""
        stem = self.folder / name
        self.openssl("req", "-newkey", *KEY, "-keyout", f"{stem}.key", "-out", f"{stem}.csr", "-subj", f"/CN={name}")
        extensions = (f"subjectAltName={names}", "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
        stem.with_suffix(".ext").write_text("\n".join(extensions))
        signed = ("-CA", self.certificate, "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial", "-extfile", f"{stem}.ext")
        self.openssl("x509", "-req", "-in", f"{stem}.csr", "-days", "2", "-out", f"{stem}.crt", *signed)
        return f"{stem}.crt", f"{stem}.key"

    @staticmethod
    def openssl(*arguments: str) -> None:
        subprocess.run([str(shutil.which("openssl")), *arguments], check=True, capture_output=True)


KEY = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    """Two of them, for certificates of the right one and of the wrong one."""
    made = []
    for name in ("ours", "theirs"):
        authority = Authority(tmp_path_factory.mktemp(name))
        files = ("-keyout", str(authority.folder / "ca.key"), "-out", authority.certificate)
        # Python 3.13 takes no authority that does not say so.
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        authority.openssl("req", "-x509", "-newkey", *KEY, "-days", "2", "-subj", f"/CN={name}", *usage, *files)
        made.append(authority)
    return made[0], made[1]


@pytest.fixture
def server_tls(authorities: tuple[Authority, Authority]) -> Callable[[str], ssl.SSLContext]:
    """A server's side of TLS, with a certificate of the first authority for these names."""

    def context(names: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*authorities[0].issue("server", names))
        return made

    return context
