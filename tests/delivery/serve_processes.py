"""Two ``qkdpp serve`` as processes, on stores filled beforehand."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from worlds import KMES, OUT_S, World, delivery_file, free_port

QKDPP = [sys.executable, "-P", "-m", "qkdpp"]


class Served:
    """Two processes on stores filled beforehand."""

    def __init__(self, folder: Path, pki: Path) -> None:
        self.folder, self.pki = folder, pki
        filled = World(folder, pki)
        filled.fill(2)
        filled.close()
        port = self.meeting = free_port()
        self._meet = dict(zip(KMES, (f'listen = ":{port}"', f'connect = ":{port}"'), strict=True))
        self.processes = {own: self._start(own, self._meet[own]) for own in KMES}
        self.ports = {own: self._port(own) for own in KMES}

    def again(self, own: str) -> None:
        """Starts one anew that has ended."""
        self.processes[own].stdout.close()
        self.processes[own] = self._start(own, self._meet[own])
        self.ports[own] = self._port(own)

    def _port(self, own: str) -> int:
        line = self.processes[own].stdout.readline()
        assert line.startswith(f"{own}: applications on 127.0.0.1:"), line
        return int(line.rpartition(":")[2])

    def _start(self, own: str, meet: str) -> subprocess.Popen[str]:
        path = delivery_file(self.folder, self.pki, own, meet).path
        with open(self.folder / f"{own}.log", "w", encoding="utf-8") as log:
            return subprocess.Popen([*QKDPP, "serve", str(path)], stdout=subprocess.PIPE, stderr=log, text=True)

    def get(self, sae: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("get", sae, *arguments), capture_output=True, text=True, check=False, timeout=60
        )

    def command(self, name: str, sae: str, *arguments: str) -> list[str]:
        where = f"127.0.0.1:{self.ports[World.home(sae)]}"
        files = ["--authority", str(self.pki / "authority.pem"), "--certificate", str(self.pki / f"{sae}.pem")]
        return [*QKDPP, "keys", name, where, *arguments, *files]

    def stop(self) -> list[int]:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return [process.wait(OUT_S) for process in self.processes.values()]
