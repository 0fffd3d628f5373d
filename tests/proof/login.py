#!/usr/bin/env python3
"""Use what `make demo` prints, exactly as it is printed: in a browser's login, with curl, and with Prefect's own client.

`login.py SETTINGS PYTHON`: a file that the playbook client_settings wrote, and an interpreter with `prefect` installed.
"""

from __future__ import annotations

import base64
import importlib
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
demo = importlib.import_module("demo")

SECONDS = 60
CLIENT = """
import asyncio
from prefect.client.orchestration import get_client
async def main():
    async with get_client() as client:
        print(await client.api_version(), len(await client.read_work_pools()) >= 0)
asyncio.run(main())
"""


def status(url: str, login: str, authority: str) -> int:
    """What the API answers to a login, as the login page sends it: the field's content in base64."""
    header = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    request = urllib.request.Request(f"{url}/api/admin/version", headers=header)  # noqa: S310  the lab's own address
    handler = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def in_bash(lines: str, python: str) -> str:
    """What Prefect's client says after these lines, in a shell that knows nothing else."""
    with tempfile.TemporaryDirectory(prefix="prefect-login-") as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "PREFECT_HOME": home}
        done = subprocess.run(
            ["bash", "-euc", f'{lines}\n"$0" -c "$1"', python, CLIENT],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    return done.stdout.strip() if done.returncode == 0 else f"failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"


def main(settings: Path, python: str) -> int:
    """Everything once; 1 when something that was printed does not work."""
    if settings.stat().st_mode & 0o077:
        print(f"{settings} can be read by others")
        return 1
    lines = demo.login(settings).splitlines()
    url = lines[0].removeprefix("Prefect answers at ")
    field = lines[lines.index("In a browser, the login page has one field for user and password together:") + 1]
    user, password = (next(line for line in lines if line.startswith(name))[10:] for name in ("user ", "password "))
    curl = next(line for line in lines if line.startswith("curl "))
    source = next(line for line in lines if line.startswith(". "))
    exports = [line for line in lines if line.startswith("export ")]
    trusting = [line for line in exports if "PREFECT_API_AUTH_STRING" not in line]
    authority = next(line for line in lines if line.endswith("-ca.crt") and " " not in line)
    found = {
        "the login page": status(url, field, authority) == 200,
        "user and password": status(url, f"{user}:{password}", authority) == 200,
        "a password that lacks its end": status(url, field[:-1], authority) == 401,
        "curl": subprocess.run(
            ["bash", "-euc", f"{curl} --silent --fail --noproxy '*'"], stdout=subprocess.DEVNULL, check=False, timeout=SECONDS
        ).returncode
        == 0,
        "Prefect's client with the file": in_bash(source, python).endswith("True"),
        "Prefect's client with the export lines": in_bash("\n".join(exports), python).endswith("True"),
        "Prefect's client without the login is refused": in_bash("\n".join(trusting), python).startswith("failed: ") and len(trusting) == 2,
        "Prefect's client without the authority refuses": "CERTIFICATE_VERIFY_FAILED"
        in in_bash("\n".join(line for line in exports if "CERT_FILE" not in line), python),
    }
    for name, works in found.items():
        print(f"{'ok' if works else 'FAILED'}  {name}")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
