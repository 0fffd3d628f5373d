"""Two load balancers with one address: whichever way one of them is lost, clients go on, and it is whole again without help.

Clients that never retry send requests to the address from this machine meanwhile. What is printed is measured there: for how long no
request that began with a new connection was answered, and which requests failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import clusters
import pytest
from lab import ROOT, Lab, environment

HOSTS = ("nginx1", "nginx2")
API = "state1"
NETWORK = "172.28.16"
ADDRESS = f"{NETWORK}.100"
SERVERS = {"nginx1": f"{NETWORK}.41", "nginx2": f"{NETWORK}.42", API: f"{NETWORK}.11"}
PROGRAM = "/etc/keepalived/virtual_address.sh"
EVERY = 0.05  # seconds between two requests of the probe
WHOLE = 60.0  # seconds until all is as it was before


LAB = Lab("balancers", 4200, address=ADDRESS)


def holders() -> list[str]:
    return clusters.holders(LAB, HOSTS)


def whole() -> bool:
    """Whether one host has the address, and each of them could."""
    if len(holders()) != 1:
        return False
    with contextlib.suppress(subprocess.CalledProcessError):
        for host in HOSTS:
            LAB.on(host, "systemctl is-active --quiet keepalived nginx")
            # As keepalived has it run, and with what it is given.
            LAB.on(
                host,
                f"runuser -u keepalived_script -- $(sed -n 's|.*script \"\\({PROGRAM}.*\\)\".*|\\1|p' /etc/keepalived/keepalived.conf)",
            )
        return True
    return False


def wait(what: str, seconds: float, is_so: Callable[[], object]) -> float:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)
    return time.monotonic() - begun


@dataclass
class Probe:
    """When requests were answered that each began with a new connection; one is sent every 50 ms, whatever became of those before."""

    answered: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    async def one(self, tls: ssl.SSLContext) -> None:
        writer = None
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(ADDRESS, 4200, ssl=tls, server_hostname=ADDRESS)
                writer.write(f"GET /api/health HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n".encode())
                if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                    self.answered.append(time.monotonic())
        if writer:
            writer.transport.abort()

    async def all(self) -> None:
        tls = ssl.create_default_context(cafile=LAB.authority)
        async with asyncio.TaskGroup() as group:
            while not self.stop.is_set():
                group.create_task(self.one(tls))
                await asyncio.sleep(EVERY)

    def longest(self) -> float:
        """The longest time without an answer."""
        return max(after - before for before, after in zip(self.answered, self.answered[1:], strict=False))


@contextmanager
def probing() -> Iterator[Probe]:
    probe = Probe()
    thread = threading.Thread(target=lambda: asyncio.run(probe.all()))
    thread.start()
    try:
        yield probe
    finally:
        probe.stop.set()
        thread.join()


def docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, capture_output=True, timeout=120)


def container(host: str) -> str:
    return f"prefect-{LAB.name}-{host}"


def cut(host: str, *others: str) -> None:
    """Nothing passes between a host and others, or all of them, in either direction."""
    those = f"{{ {', '.join(others)} }}"
    arriving, leaving = (f"ip saddr {those}", f"ip daddr {those}") if others else ('iif != "lo"', 'oif != "lo"')
    chains = [
        f"chain {hook} {{\ntype filter hook {hook} priority -50\n{match} drop\n}}"
        for hook, match in (("input", arriving), ("output", leaving))
    ]
    LAB.on(host, "\n".join(["nft -f - <<'END'", "table inet test_cut {", *chains, "}", "END", ""]))


def healed(host: str) -> None:
    LAB.on(host, "nft delete table inet test_cut")


def switchover(host: str) -> None:
    played = LAB.play("switchover", prefect_switchover="nginx")
    assert played.changed == 1
    assert played.says(f"is the load balancer with the address now, in place of {host}: it took", "nginx answers there")


def restart(host: str) -> None:
    """Of nginx and keepalived: the address is passed on, and each process is another one."""
    mains = "systemctl show --property=MainPID --value nginx keepalived"
    before = {each: LAB.on(each, mains).split() for each in HOSTS}
    LAB.play("restart", prefect_restart="nginx")
    assert holders() != [host]
    assert not [each for each in HOSTS if LAB.on(each, mains).split()[0] == before[each][0]]


def signalled(name: str) -> Callable[[str], object]:
    return lambda host: LAB.on(host, f"systemctl kill --kill-whom=all --signal={name} nginx")


def nothing(_host: str) -> None:
    pass


@dataclass(frozen=True)
class Loss:
    """A way to lose the load balancer that has the address, what ends it, and what clients may notice at most."""

    breaks: Callable[[str], object]
    reverts: Callable[[str], object] = nothing
    seconds: float = 4.0
    failed: int | None = None
    moves: bool = True


LOSSES = {
    "planned switchover": Loss(switchover, seconds=3, failed=0),
    "planned restart of nginx": Loss(restart, seconds=3, failed=0),
    "keepalived stopped": Loss(
        lambda host: LAB.on(host, "systemctl stop keepalived"), lambda host: LAB.on(host, "systemctl start keepalived"), seconds=3, failed=0
    ),
    "keepalived killed": Loss(lambda host: LAB.on(host, "systemctl kill --kill-whom=all --signal=KILL keepalived")),
    "nginx stopped": Loss(lambda host: LAB.on(host, "systemctl stop nginx"), lambda host: LAB.on(host, "systemctl start nginx"), seconds=2),
    "nginx killed": Loss(signalled("KILL"), seconds=2),
    "nginx frozen": Loss(signalled("STOP"), signalled("CONT")),
    "API server out of its reach": Loss(lambda host: cut(host, SERVERS[API]), healed, seconds=8),
    "host rebooted": Loss(lambda host: LAB.on(host, "systemctl reboot", check=False), seconds=3),
    "host killed": Loss(lambda host: docker("kill", container(host)), lambda host: docker("start", container(host)), seconds=4),
    "host cut off": Loss(cut, healed, seconds=4),
    # The hosts still reach the API server, and their clients, and not each other: both have the address until that is over.
    "hosts cut off from each other": Loss(lambda host: cut(host, *(SERVERS[each] for each in HOSTS if each != host)), healed, seconds=4),
}


@pytest.mark.parametrize("what", LOSSES)
def test_clients_go_on(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loss = LOSSES[what]
    wait("all is well before", WHOLE, whole)
    (holder,) = holders()
    (other,) = {*HOSTS} - {holder}
    with probing() as probe, LAB.load(tmp_path) as load:
        time.sleep(5)
        loss.breaks(holder)
        wait("the address is on the other host", 20, lambda: other in holders())
        time.sleep(8)
        lost = probe.longest()
        loss.reverts(holder)
        back = wait("all is as before", WHOLE, whole)
        time.sleep(3)
    with capsys.disabled():
        report = load.report
        print(
            f"\n{what}: {lost:.2f} s without service, {probe.longest():.2f} s at most until it was whole again, {back:.1f} s after it was"
            f" reverted; {report['failed']} of {report['requests']} requests failed, {report['lost']} acknowledged writes lost;"
            f" {report['latency']}"
        )
        for failure in report["failures"][:5]:
            print(f"  {failure}")
    assert lost <= loss.seconds + 2 * EVERY
    assert report["lost"] == 0
    assert loss.failed is None or report["failed"] <= loss.failed


def test_the_address_stays_where_it_is_while_no_load_balancer_serves() -> None:
    """Without an API server, and without any nginx; and it needs no time to get back."""
    wait("all is well before", WHOLE, whole)
    before = holders()
    for units, host in (("prefect-api@4200 prefect-api@4201", API), ("nginx", "")):
        for each in [host] if host else HOSTS:
            LAB.on(each, f"systemctl stop {units}")
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert holders() == before
            time.sleep(0.5)
        for each in [host] if host else HOSTS:
            LAB.on(each, f"systemctl start {units}")
        wait("all is as before", WHOLE, whole)
        assert holders() == before


def test_another_configuration_is_read_without_the_address_moving() -> None:
    """Also when the run that wrote it was interrupted before keepalived read it."""
    wait("all is well before", WHOLE, whole)
    before = holders()
    mains = {host: LAB.on(host, "systemctl show --property=MainPID --value keepalived") for host in HOSTS}
    for breaks, changed in (("sed -i s/garp_master_refresh/garp_master_repeat/", 2), ("touch", 1)):
        for host in HOSTS:
            LAB.on(host, f"{breaks} /etc/keepalived/keepalived.conf")
        with probing() as probe:
            assert LAB.play("site", "--tags", "keepalived").changed == changed * len(HOSTS)
        assert probe.longest() <= 1
        assert LAB.play("site", "--tags", "keepalived").changed == 0
    assert {host: LAB.on(host, "systemctl show --property=MainPID --value keepalived") for host in HOSTS} == mains
    assert holders() == before


def test_a_switchover_to_none_is_refused() -> None:
    wait("all is well before", WHOLE, whole)
    (holder,) = holders()
    (other,) = {*HOSTS} - {holder}
    LAB.on(other, "systemctl stop nginx")
    try:
        played = LAB.play("switchover", expect=2, prefect_switchover="nginx")
        assert played.says("Nothing was changed.", f"nginx.service on {other} is inactive")
        for to, why in (("", "No other load balancer reaches an API server"), (other, f"{other} reaches no API server")):
            played = LAB.play("switchover", expect=2, prefect_switchover="nginx", prefect_switchover_to=to, prefect_allow_degraded=True)
            assert played.says(f"{why}, so {holder} keeps the address {ADDRESS}. Nothing was changed.")
            assert played.changed == 0
        assert holders() == [holder]
    finally:
        LAB.on(other, "systemctl start nginx")


def test_a_switchover_to_the_one_that_has_it_changes_nothing() -> None:
    wait("all is well before", WHOLE, whole)
    (holder,) = holders()
    (other,) = {*HOSTS} - {holder}
    would = LAB.play("switchover", "--check", prefect_switchover="nginx", prefect_switchover_to=other)
    assert would.says(f"Would make {other} the load balancer with the address, in place of {holder}.")
    played = LAB.play("switchover", prefect_switchover="nginx", prefect_switchover_to=holder)
    assert played.says(f"{holder} is the load balancer with the address already: there is nothing to do.")
    assert (played.changed, holders()) == (0, [holder])


def test_vrrp_of_strangers_is_not_listened_to() -> None:
    """A machine of the same network that claims the address: the firewall drops that, and keepalived takes it from its peers only."""
    wait("all is well before", WHOLE, whole)
    (holder,) = holders()
    counted = "nft list chain inet prefect_firewall arriving | grep 'l4proto.*drop'"
    before = LAB.on(holder, counted)
    forge = """
import socket, struct
body = struct.pack("!BBBBBBH", 0x21, 1, 255, 1, 1, 1, 0) + socket.inet_aton("%s") + bytes(8)
total = sum(struct.unpack(f"!{len(body) // 2}H", body))
total = (total & 0xFFFF) + (total >> 16)
body = body[:6] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[8:]
channel = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
channel.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
for _ in range(5):
    channel.sendto(body, ("%s", 0))
"""
    LAB.on(API, f"python3 - <<'END'\n{forge % (ADDRESS, SERVERS[holder])}\nEND\n")
    time.sleep(2)
    assert holders() == [holder]
    assert LAB.on(holder, counted) != before


def test_what_the_figures_say() -> None:
    wait("all is well before", WHOLE, whole)
    (holder,) = holders()
    for host in HOSTS:
        trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=LAB.authority))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting)
        figures = opener.open(f"https://{SERVERS[host]}:9100/metrics", timeout=10).read().decode()
        assert f'prefect_virtual_address_info{{address="{ADDRESS}"}} 1' in figures
        assert (f'node_network_address_info{{address="{ADDRESS}"' in figures) is (host == holder)
        assert 'node_systemd_unit_state{name="keepalived.service",state="active",type="notify"} 1' in figures
        # The check is no request of a client's.
        assert "keepalived" not in LAB.on(host, "tail -n 2000 /var/log/nginx/prefect.log")
    said = LAB.play("status").output
    assert f"{ADDRESS} is on {holder}" in said


def test_a_secret_is_nowhere_in_plain_text() -> None:
    """On the wire and on the host is what was derived from it."""
    password = (ROOT / "build/lab" / LAB.name / "keepalived").read_text().strip()
    for host in HOSTS:
        assert LAB.on(host, f"grep -rlF '{password}' /etc /run /var/log 2>/dev/null || true") == ""


def test_a_dead_load_balancer_is_made_anew(capsys: pytest.CaptureFixture[str]) -> None:
    """Another machine under its own name and address."""
    wait("all is well before", WHOLE, whole)
    (holder,) = holders()
    (other,) = (host for host in HOSTS if host != holder)
    assert LAB.play("replace", expect=2, prefect_replace_host=holder).says(f"{holder} is not empty")
    with probing() as probe:
        docker("rm", "--force", container(holder))
        create = ["ansible-playbook", "-i", LAB.inventory, "molecule/shared/create.yml", "--limit", holder]
        subprocess.run(create, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=300)
        played = LAB.play("replace", prefect_replace_host=holder)
    with capsys.disabled():
        print(f"\n{holder} made anew: {probe.longest():.1f} s without an answer; the run took {played.seconds:.0f} s")
    assert probe.longest() <= 4
    assert played.says(f"{holder} has taken the place of {holder} in nginx, keepalived.")
    wait("all is well", WHOLE, whole)
    assert holders() == [other], "the new one has taken the address from the one that served"
    assert LAB.play("site").changed == 0


def test_a_load_balancer_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    """The one that has the address, and it comes back."""
    wait("all is well before", WHOLE, whole)
    (holder,) = holders()
    (other,) = (host for host in HOSTS if host != holder)
    with probing() as probe:
        LAB.play("remove_host", prefect_remove_host=holder)
    with capsys.disabled():
        print(f"\n{holder} leaves: {probe.longest():.1f} s without an answer")
    assert probe.longest() <= 3
    assert holders() == [other]
    assert LAB.on(holder, "systemctl is-enabled keepalived nginx || true").split() == ["disabled", "disabled"]
    with probing() as probe:
        LAB.play("site")
    with capsys.disabled():
        print(f"\n{holder} comes back: {probe.longest():.1f} s without an answer")
    assert probe.longest() <= 3
    assert holders() == [other]
    wait("all is well", WHOLE, whole)


def test_the_address_is_no_longer_wanted() -> None:
    LAB.play("site", "--tags", "keepalived", nginx_virtual_address="")
    assert holders() == []
    drop_in = "/etc/systemd/system/keepalived.service.d/prefect.conf"
    files = f"{PROGRAM} {PROGRAM.replace('.sh', '.env')} /etc/keepalived/keepalived.conf {drop_in}"
    for host in HOSTS:
        assert LAB.on(host, f"systemctl is-enabled keepalived || true; ls {files} 2>/dev/null || true") == "disabled\n"
    LAB.play("site", "--tags", "keepalived")
    wait("one of them has it again", WHOLE, whole)
