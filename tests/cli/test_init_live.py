"""``qkdpp init --live``: what it writes is a link whose two nodes and laboratory fit each other."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qkdpp.core.errors import ConfigError
from qkdpp.delivery.config import load_delivery
from qkdpp.link.hello import named_fields
from qkdpp.node.config import load_node
from qkdpp.node.sender import check_transmitter
from qkdpp.offline.runfile import load as load_run
from qkdpp_drivers.sim.bench import KINDS
from qkdpp_drivers.sim.lab import build_world, read_lab


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "qkdpp", "init", "--live", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


class Stated:
    """What a unit before this world would state."""

    def __init__(self, world):
        self.world = world

    def configuration(self):
        header, string = self.world.header, self.world.header.sync_string
        return {
            "pulse_period_as": header.pulse_period_as,
            "intensities": list(header.intensities),
            "p_intensity": list(header.p_intensity),
            "p_z": header.p_z,
            "sync_period_pulses": self.world.sync.period_pulses,
            "sync_string": {"seed": string.seed.hex(), "length": string.length, "frame": string.frame},
        }


@pytest.mark.parametrize("scenario", ["backbone-625mhz", "metro-40mhz"])
def test_nodes_and_laboratory_fit(tmp_path, scenario):
    done = init(tmp_path / "trial", "--scenario", scenario, "--block-s", "5", "--port", "40321")
    assert done.returncode == 0, done.stderr
    alice, bob = (load_node(tmp_path / "trial" / f"{name}.toml") for name in ("alice", "bob"))
    assert named_fields(alice.parameters) == named_fields(bob.parameters)
    assert alice.blocks == bob.blocks
    assert alice.block_pulses * alice.parameters.source.pulse_period_as == pytest.approx(5e18, rel=0.01)
    assert alice.link.address() == ("127.0.0.1", 40321, True)
    assert bob.link.address() == ("127.0.0.1", 40321, False)
    lab = read_lab(tmp_path / "trial" / "lab.toml")
    check_transmitter(Stated(build_world(lab)), alice.parameters)
    wanted = {d.url.removeprefix("sim://").partition("?")[0] for f in (alice, bob) for d in f.devices.values()}
    assert wanted == set(lab.instruments)
    assert set(lab.instruments.values()) <= set(KINDS)


def test_a_file_of_another_kind_is_told_with_its_command(tmp_path):
    assert init(tmp_path / "link").returncode == 0
    readers = {"qkdpp run": load_node, "qkdpp serve": load_delivery, "qkdpp distill": load_run, "sim.lab": None}
    files = {"alice.toml": "qkdpp run", "kme-alice.toml": "qkdpp serve", "lab.toml": "sim.lab"}
    for name, own in files.items():
        for wanted, read in readers.items():
            if read is not None and wanted != own:
                with pytest.raises(ConfigError, match=rf"{name}: .*this is an? .*{own}`, not an? .*{wanted}`"):
                    read(tmp_path / "link" / name)


def test_secrets_are_the_owners_alone_and_the_same_for_both(tmp_path):
    assert init(tmp_path / "trial").returncode == 0
    pools = [tmp_path / "trial" / f"{name}.pool" for name in ("alice", "bob")]
    assert pools[0].read_bytes() == pools[1].read_bytes()
    for secret in (*pools, *(tmp_path / "trial" / "pki").glob("*.key")):
        assert stat.S_IMODE(secret.stat().st_mode) & 0o077 == 0


def test_the_commands_are_printed(tmp_path):
    printed = init(tmp_path / "trial").stdout
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    starts = [["python", "-m"], ["qkdpp", "run"], ["qkdpp", "run"], ["qkdpp", "keys"]]
    assert [line.split()[:2] for line in lines] == starts


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine").write_text("here")
    done = init(tmp_path)
    assert done.returncode == 2
    assert "not empty" in done.stderr


def test_a_scenario_that_cannot_live_is_refused(tmp_path):
    done = init(tmp_path / "trial", "--scenario", "fibre-no-sync")
    assert done.returncode == 2
    assert "sync pulses" in done.stderr
    assert not (tmp_path / "trial").exists()
