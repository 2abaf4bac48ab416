"""A hub behind ssh: a real sshd on loopback, keys of its own, and engines that reach the hub through it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq
from tests.network.conftest import made
from tests.network.hosts import Host, free_port
from tests.network.work import hold
from tests.processes.harness import PATIENCE_S, kill, slots_up, until
from tests.processes.work import add

USER = getpass.getuser()
VIA = f"{USER}@127.0.0.1"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")

pytestmark = pytest.mark.skipif(
    SSHD is None and os.getuid() != 0, reason="needs sshd (Debian: openssh-server), and root to install it"
)


def make_keys(folder: Path) -> None:
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, timeout=PATIENCE_S)


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start an sshd that lets the user's key in, and nothing else."""
    assert SSHD is not None, "there is no sshd: python3 dev.py test installs it"
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    lines = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host", "PidFile none", "UsePAM no",
        f"AuthorizedKeysFile {folder}/user.pub", "StrictModes no", "PasswordAuthentication no",
    ]  # fmt: skip
    config = folder / "sshd_config"
    config.write_text("\n".join(lines) + "\n")
    with (folder / "sshd.log").open("wb") as log:
        return subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log)


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an ``ssh`` that knows the keys of the sshd that runs meanwhile."""
    folder = tmp_path_factory.mktemp("ssh")
    make_keys(folder)
    port = free_port()
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    options = [
        f"Port {port}", f"IdentityFile {folder}/user", "IdentitiesOnly yes", "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {folder}/known_hosts",
    ]  # fmt: skip
    (folder / "ssh_config").write_text("\n".join(options) + "\n")
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    daemon = serve(folder, port)
    try:
        until(lambda: answers(port, daemon), "the start of sshd")
        yield folder / "bin"
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_S)


def answers(port: int, daemon: subprocess.Popen[bytes]) -> bool:
    assert daemon.poll() is None, "sshd has ended"
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as probe:
            return probe.recv(4) == b"SSH-"
    except ConnectionRefusedError:
        return False


@pytest.fixture
def there(here: Host, bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host with that ``ssh``, and with the engine's file of a hub that listens on loopback alone."""
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    here.hub("--bind", "tcp://127.0.0.1:0")
    with made() as host:
        host.take(here.file("engine"))
        yield host


def start(there: Host, *arguments: str, via: str = VIA) -> subprocess.Popen[str]:
    return there.engine(1, "--hub", str(there.folder / "engine.json"), "--via", via, *arguments)


def tunnels(there: Host) -> list[int]:
    return [process.pid for process in there.alive(str(shutil.which("ssh", path=real_path())))]


def real_path() -> str:
    return os.environ["PATH"].partition(":")[2]


def test_tasks_run_behind_ssh_and_no_ssh_is_left(here: Host, there: Host) -> None:
    engine = start(there)
    with nbq.connect(here.file("client")) as client:
        slots_up(client, 1)
        assert client.map(add, range(500), range(500)).get(30) == [2 * i for i in range(500)]
        assert f"tcp://127.0.0.1:{here.port()}" not in there.said("connected to hub")
        assert len(tunnels(there)) == 1
        engine.terminate()
        assert engine.wait(PATIENCE_S) == 0
        assert tunnels(there) == []


def test_no_ssh_outlives_an_engine_that_is_killed(here: Host, there: Host) -> None:
    engine = start(there)
    there.said("connected to hub")
    assert len(tunnels(there)) == 1
    kill(engine)
    until(lambda: tunnels(there) == [], "the end of ssh")


def test_ssh_is_opened_again_when_it_ends_and_work_goes_on(here: Host, there: Host) -> None:
    start(there)
    with nbq.connect(here.file("client")) as client:
        slots_up(client, 1)
        result = client.submit(hold, there.mark("runs"), there.mark("gate"))
        there.marked("runs")
        (first,) = there.alive(str(shutil.which("ssh", path=real_path())))
        kill(first)
        until(lambda: tunnels(there) not in ([], [first.pid]), "another ssh")
        until(lambda: there.log.read_text().count("connected to hub") == 2, "another connection")
        (there.marks / "gate").touch()
        assert result.get(30) == int(there.lines("runs")[-1])  # the hub may have had it run again meanwhile
        assert client.map(add, range(500), range(500)).get(30) == [2 * i for i in range(500)]
    assert there.said("ended") == f"nbq engine: the ssh tunnel through {VIA} ended: opening it again"


@pytest.mark.parametrize(
    ("via", "said"),
    [
        (f"{USER}@nowhere.invalid", "Could not resolve hostname nowhere.invalid"),
        ("nobody-like-this@127.0.0.1", "nobody-like-this@127.0.0.1: Permission denied (publickey"),
    ],
)
def test_what_ssh_said_is_said_when_there_is_no_way(here: Host, there: Host, via: str, said: str) -> None:
    engine = start(there, via=via)
    assert engine.wait(PATIENCE_S) == 3
    text = there.log.read_text()
    begin = f"nbq: ssh to {via} opened no way to the hub at 127.0.0.1:{here.port()}; it said: "
    assert text.startswith(begin), text
    assert said in text


def test_a_hub_that_listens_on_no_address_has_no_way_to_it(here: Host) -> None:
    here.hub()
    engine = here.engine(1, "--hub", str(here.take(here.file("engine"))), "--via", VIA)
    assert engine.wait(PATIENCE_S) == 2
    assert "nbq: the hub 'default' listens at no TCP address: start it with" in here.log.read_text()
