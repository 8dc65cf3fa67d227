"""A cluster of real servers and agents on loopback.

Owns: folders, ports and processes of one cluster. Does not own: assertions about features.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from stint import Client, StintError

PATIENCE = 90.0
"""Seconds that a test waits for a state which comes within one or two on an idle machine."""


def binary(name: str) -> str:
    """Path of a program of stint, in the folder that `STINT_BIN_DIR` names."""
    folder = os.environ.get("STINT_BIN_DIR")
    if not folder:
        raise RuntimeError(
            "STINT_BIN_DIR must name the folder of stint and stint-agent, such as target/release"
        )
    return str(Path(folder) / name)


def eventually(what: str, check: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until something holds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if check():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {patience:g} s: {what}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Cluster:
    """Servers and one agent. Leaving its context ends them and removes their data."""

    def __init__(self, n_servers: int, *, token: str | None = None, client_timeout: float = 60.0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stint-sdk-"))
        # Pods are users of their own; what they share must be reachable.
        self.folder.chmod(0o755)
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o777)
        ports = free_ports(2 * n_servers)
        self.names = [f"s{number}" for number in range(1, n_servers + 1)]
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(self.names, ports, strict=False)}
        self._peers = {
            name: f"127.0.0.1:{port}" for name, port in zip(self.names, ports[n_servers:], strict=True)
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token_arguments: list[str] = []
        if token is not None:
            token_file = self.folder / "token"
            token_file.write_text(token)
            self._token_arguments = ["--token-file", str(token_file)]
        try:
            for name in self.names:
                self.start(name)
            self._start_agent()
            self.client = Client(list(self.addresses.values()), token=token, timeout=client_timeout)
            eventually("a leader", lambda: self.leader() is not None)
            self._wait_for_node()
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._end()

    @property
    def address_list(self) -> str:
        """All servers, separated by commas."""
        return ",".join(self.addresses.values())

    def start(self, name: str) -> None:
        """Start a server, for the first time or again."""
        arguments = ["server", "--name", name, "--data-dir", str(self.folder / name)]
        arguments += ["--listen", self.addresses[name], "--peer-listen", self._peers[name]]
        arguments += [
            "--initial-cluster",
            ",".join(f"{one}={address}" for one, address in self._peers.items()),
        ]
        arguments += ["--node-lease", "20s", *self._token_arguments]
        self._spawn(name, [binary("stint"), *arguments])

    def kill(self, name: str) -> None:
        """Kill a server with SIGKILL and wait until it is gone."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def pause(self, name: str) -> None:
        """Stop a server with SIGSTOP: its connections stay, and nothing is answered."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a stopped server go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def leader(self) -> str | None:
        """Name of the leader, if there is one that runs."""
        with contextlib.suppress(StintError):
            leader = self.client.status().leader
            if leader in self._processes:
                return leader
        return None

    def kill_leader(self) -> str:
        """Kill the leader, as soon as there is one, and return its name."""
        found: list[str] = []

        def find() -> bool:
            found[:] = [leader] if (leader := self.leader()) is not None else []
            return bool(found)

        eventually("a leader", find)
        self.kill(found[0])
        return found[0]

    def _start_agent(self) -> None:
        arguments = ["--name", "w1", "--server", self.address_list, "--data-dir", str(self.folder / "w1")]
        arguments += ["--cpu", "64", "--memory", "64Gi", "--allow", f"writable={self.shared}"]
        # The disk of whoever runs the tests may be nearly full.
        arguments += ["--min-free-disk", "0", "--min-free-memory", "0"]
        arguments += ["--stop-pods-on-exit", *self._token_arguments]
        self._spawn("w1", [binary("stint-agent"), *arguments])

    def _wait_for_node(self) -> None:
        """Wait until Jobs run."""
        self.client.run(["true"], name="first").wait(PATIENCE)

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def _end(self) -> None:
        # The agent first: it ends its Pods, and tells the servers.
        for name in sorted(self._processes, key=lambda one: one != "w1"):
            process = self._processes[name]
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20 if name == "w1" else 5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
