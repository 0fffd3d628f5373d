"""The firewall's rules in the kernel, between two network namespaces of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

# It makes the imports of the collection below work.
from tests.load import collection  # noqa: F401  # pylint: disable=unused-import

from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.gate import NftablesGate  # isort: skip
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, run  # isort: skip
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.firewall import TABLE, Firewall, ruleset  # isort: skip

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
HERE, THERE = f"prefect-test-{os.getpid()}-h", f"prefect-test-{os.getpid()}-t"
SERVER, FRIEND, STRANGER = "10.213.7.1", "10.213.7.2", "10.213.7.3"
SERVER6, FRIEND6, STRANGER6 = "fd13:7::1", "fd13:7::2", "fd13:7::3"
CONNECT = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family) as channel:
    channel.settimeout(float(sys.argv[4]))
    channel.bind((sys.argv[3], 0))
    try:
        channel.connect((sys.argv[1], int(sys.argv[2])))
        print(channel.recv(9).decode())
    except OSError as error:
        print(type(error).__name__)
"""
# Greets each client, on each port; what it is sent on standard input, it sends to the first who came.
SERVE = """
import socket, sys, threading
came = []
def serve(listener):
    while True:
        channel = listener.accept()[0]
        came.append(channel)
        channel.sendall(b"hello")
for port in map(int, sys.argv[1:]):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    came[0].sendall(line.encode())
"""
# Connects, waits for a word on standard input, and then only listens.
WAIT = """
import socket, sys, time
for _try in range(50):
    try:
        channel = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
print(channel.recv(9).decode(), flush=True)
sys.stdin.readline()
print(channel.recv(9).decode().strip(), flush=True)
"""
UDP = """
import socket, sys
channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
channel.settimeout(float(sys.argv[3]))
channel.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
try:
    data, peer = channel.recvfrom(99)
    channel.sendto(b"answer", peer)
    print(data.decode())
except OSError as error:
    print(type(error).__name__)
"""
ASK = """
import socket, sys
channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
channel.settimeout(1)
channel.sendto(b"question", (sys.argv[1], int(sys.argv[2])))
try:
    print(channel.recv(99).decode())
except OSError as error:
    print(type(error).__name__)
"""


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, timeout=20, capture_output=True)


def begin(namespace: str, program: str, *arguments: object) -> subprocess.Popen[str]:
    words = ["ip", "netns", "exec", namespace, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def finished(namespace: str, program: str, *arguments: object) -> str:
    with begin(namespace, program, *arguments) as process:
        return process.communicate(timeout=30)[0].strip()


def nft(argv: list[str], timeout: float, stdin: str = "") -> Finished:
    return run(["ip", "netns", "exec", HERE, *argv], timeout, stdin=stdin)


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """A host that serves ports 4200 and 5432, and another one with two addresses."""
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    names = {HERE: "here0", THERE: "there0"}
    try:
        for name in names:
            ip(f"netns add {name}")
        ip(f"link add here0 netns {HERE} type veth peer name there0 netns {THERE}")
        for name, link in names.items():
            ip(f"-n {name} link set lo up")
            ip(f"-n {name} link set {link} up")
        for name, addresses in ((HERE, (SERVER, SERVER6)), (THERE, (FRIEND, STRANGER, FRIEND6, STRANGER6))):
            for address in addresses:
                ip(f"-n {name} addr add {address}/{64 if ':' in address else 24} dev {names[name]}{' nodad' if ':' in address else ''}")
        with begin(HERE, SERVE, 4200, 5432) as process:
            assert said(process) == "ready"
            yield process
            process.kill()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=20)


@pytest.fixture
def loaded(server: subprocess.Popen[str]) -> Iterator[None]:
    rules(opening(4200, FRIEND, FRIEND6))
    yield
    assert nft(["nft", "flush", "ruleset"], 20).rc == 0
    assert server.poll() is None


def opening(port: int, *sources: str) -> dict[str, object]:
    return {"what": "a test", "port": port, "protocols": ["tcp"], "sources": list(sources)}


def rules(*openings: dict[str, object]) -> None:
    ended = nft(["nft", "--file", "-"], 20, stdin=ruleset(openings, [22], [FRIEND], ["tcp dport 7 accept"]))
    assert ended.rc == 0, ended.output


def connect(port: int, source: str, seconds: float = 1.0) -> str:
    return finished(THERE, CONNECT, SERVER6 if ":" in source else SERVER, port, source, seconds)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("port", "source", "answer"),
    [
        (4200, FRIEND, "hello"),
        (4200, FRIEND6, "hello"),
        (4200, STRANGER, "TimeoutError"),
        (4200, STRANGER6, "TimeoutError"),
        (5432, FRIEND, "TimeoutError"),
        (22, FRIEND, "ConnectionRefusedError"),
        (22, STRANGER, "TimeoutError"),
        (7, STRANGER, "ConnectionRefusedError"),
    ],
)
def test_who_may_reach_what(port: int, source: str, answer: str) -> None:
    assert connect(port, source) == answer


@pytest.mark.usefixtures("loaded")
def test_the_host_reaches_itself_and_others() -> None:
    assert finished(HERE, CONNECT, SERVER, 5432, SERVER, 2) == "hello"
    assert finished(HERE, CONNECT, "127.0.0.1", 5432, "127.0.0.1", 2) == "hello"
    with begin(THERE, SERVE, 8080) as other:
        assert said(other) == "ready"
        assert finished(HERE, CONNECT, STRANGER, 8080, SERVER, 2) == "hello"
        other.kill()


@pytest.mark.usefixtures("loaded")
def test_datagrams() -> None:
    """An answer comes in, a question does not."""
    with begin(THERE, UDP, STRANGER, 5353, 5) as other:
        assert said(other) == "ready"
        assert finished(HERE, ASK, STRANGER, 5353) == "answer"
    with begin(HERE, UDP, SERVER, 5353, 2) as here:
        assert said(here) == "ready"
        assert finished(THERE, ASK, SERVER, 5353) == "TimeoutError"
        assert said(here) == "TimeoutError"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("serves", "asks", "address"), [(HERE, THERE, SERVER), (THERE, HERE, FRIEND)], ids=["in", "out"])
def test_an_older_connection_goes_on(serves: str, asks: str, address: str) -> None:
    """Also one on which only the other side says something, and that the kernel has not tracked before."""
    with begin(serves, SERVE, 8081) as server, begin(asks, WAIT, address, 8081) as client:
        assert said(server) == "ready"
        try:
            assert said(client) == "hello"
            rules(opening(4200, FRIEND))
            tell(client, "now")
            tell(server, "more")
            assert said(client) == "more"
        finally:
            nft(["nft", "flush", "ruleset"], 20)
            server.kill()


@pytest.mark.usefixtures("loaded")
def test_a_drained_server_still_refuses() -> None:
    """What the firewall accepts, a drain rejects at once; the two know nothing of each other."""
    gate = NftablesGate(4200, command=nft)
    gate.reject()
    assert connect(4200, FRIEND) == "ConnectionRefusedError"
    rules(opening(4200, FRIEND, STRANGER))
    assert gate.is_rejecting()
    gate.accept()
    assert connect(4200, STRANGER) == "hello"


@pytest.mark.usefixtures("loaded")
def test_other_tables_stay() -> None:
    assert nft(["nft", "add", "table", "ip", "docker"], 20).rc == 0
    rules(opening(4200, FRIEND))
    assert "table ip docker" in nft(["nft", "list", "tables"], 20).output
    assert f"table inet {TABLE}" in nft(["nft", "list", "tables"], 20).output


@pytest.mark.usefixtures("server")
def test_a_mistake_reverts_itself(tmp_path: Path) -> None:
    """Through the kernel; of systemd the timer's command is enough."""
    timer: list[str] = []

    def command(argv: list[str], timeout: float, stdin: str = "") -> Finished:
        if argv[0] == "nft":
            return nft(argv, timeout, stdin)
        timer[:] = argv[argv.index("nft") :] if argv[0] == "systemd-run" else []
        return Finished(0, "")

    firewall = Firewall(tmp_path / "rules.nft", command, tmp_path / "run")
    good, mistake = (ruleset([opening(4200, source)], [22], []) for source in (FRIEND, STRANGER))
    firewall.attempt(good, 60)
    firewall.confirm(good)
    assert (connect(4200, FRIEND), firewall.loaded(good), timer) == ("hello", True, [])
    firewall.attempt(mistake, 60)
    assert (connect(4200, FRIEND), firewall.loaded(mistake)) == ("TimeoutError", True)
    assert nft(timer, 20).rc == 0
    assert (connect(4200, FRIEND), firewall.loaded(good), firewall.loaded(mistake)) == ("hello", True, False)
    firewall.remove()
    assert connect(4200, STRANGER) == "hello"
    firewall.attempt(mistake, 60)
    assert connect(4200, FRIEND) == "TimeoutError"
    assert nft(timer, 20).rc == 0
    assert connect(4200, FRIEND) == "hello"
    assert not firewall.present()


INVENTORY = {
    "state1": ["postgres", "redis"],
    "api1": ["prefect_api"],
    "services1": ["prefect_services"],
    "lb1": ["nginx"],
    "watch1": ["monitoring"],
    "watch2": ["monitoring"],
    "worker1": ["prefect_worker"],
}
ADDRESSES = {name: f"10.0.0.{number}" for number, name in enumerate(INVENTORY, 1)}
PLAY = """
- hosts: all
  gather_facts: false
  roles: [selfhosted.prefect.common]
  tasks:
    - ansible.builtin.import_role: {{name: selfhosted.prefect.firewall, tasks_from: preflight}}
    - ansible.builtin.copy:
        content: "{{{{ {{'openings': __firewall_openings, 'needed': __firewall_needed, 'ssh': firewall_ssh_ports}} | to_json }}}}"
        dest: "{folder}/{{{{ inventory_hostname }}}}.json"
        mode: "0600"
"""


def test_topology(commands: Commands, tmp_path: Path) -> None:
    """Who may reach whom in a deployment of seven hosts, by what the components say."""
    groups: dict[str, Any] = {name: {"hosts": {}} for names in INVENTORY.values() for name in names}
    for host, names in INVENTORY.items():
        for name in names:
            groups[name]["hosts"][host] = {"ansible_host": ADDRESSES[host]}
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "prefect_redis_password": "x",
        "prefect_backup_host": "state1",
        "firewall_sources": {"monitoring": ["10.8.0.0/16"]},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": shared, "children": groups}}), encoding="utf-8")
    (tmp_path / "play.yml").write_text(PLAY.format(folder=tmp_path), encoding="utf-8")
    commands.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"], env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    )
    told = {host: json.loads((tmp_path / f"{host}.json").read_text(encoding="utf-8")) for host in INVENTORY}
    hosts = {address: host for host, address in ADDRESSES.items()}
    reached = {
        host: {each["port"]: [hosts.get(source, source) for source in each["sources"]] for each in found["openings"]}
        for host, found in told.items()
    }
    watch = ["watch1", "watch2"]
    viewers = [*watch, "10.8.0.0/16"]
    assert reached == {
        "state1": {5432: ["state1", "api1", "services1"], 6379: ["api1", "services1"], 9100: watch, 9187: watch, 9121: watch},
        "api1": {4200: ["api1", "services1", "lb1", *watch], 9100: watch},
        "services1": {9100: watch, 9420: watch},
        "lb1": {4200: ["anywhere"], 9100: watch, 9113: watch, 3903: watch},
        "watch1": {9090: viewers, 9093: viewers, 9094: viewers, 9100: watch},
        "watch2": {9090: viewers, 9093: viewers, 9094: viewers, 9100: watch},
        "worker1": {9100: watch},
    }
    state = [["10.0.0.1", 5432], ["10.0.0.1", 6379]]
    assert told["api1"]["needed"] == [*state, ["10.0.0.4", 4200]]
    assert told["lb1"]["needed"] == [["10.0.0.2", 4200]]
    assert told["worker1"]["needed"] == [["10.0.0.4", 4200]]
    assert told["state1"]["needed"] == []
    assert [int(port) for port in told["api1"]["ssh"]] == [22]
