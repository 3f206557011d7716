"""Scenarios: strict parsing, shipped files, and the run folders made from them."""

import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.tags import TimeTags
from qkdpp.offline import runfile
from qkdpp.scenarios import scenario_file
from qkdpp.sim import run
from qkdpp.sim.path import PassPath, build
from qkdpp.sources import open_recording, read_all
from qkdpp.sources.prepared import read_prepared

SHIPPED = [
    "backbone-625mhz",
    *(f"carrier-type-{n}" for n in range(1, 6)),
    "example",
    "fibre-no-sync",
    "metro-40mhz",
    "metro-40mhz-type2",
    "pair-lab",
    "satellite-pass",
]
SHORT_S = 0.02


def text(name: str) -> str:
    return (resources.files("qkdpp") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")


def make(
    name: str, out: Path, *, seed: int = 1, duration_s: float = SHORT_S, format_name: str | None = None
) -> run.Summary:
    plan = run.resized(scenario_file.load(name), scale=None, duration_s=duration_s, format_name=format_name)
    return run.simulate(plan, scenario_text=text(name), seed=seed, out=out)


def recording(loaded: runfile.RunFile, party: Literal["alice", "bob"]) -> TimeTags:
    section = loaded.alice if party == "alice" else loaded.bob
    return read_all(open_recording(loaded.recordings(party), format=section.format, tick_as=section.tick_as))


def test_the_shipped_scenarios() -> None:
    assert list(scenario_file.shipped()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_number_has_a_source(name: str) -> None:
    for line in text(name).splitlines():
        if re.match(r"\w+ = .*\d", line) and not line.startswith(("title", "protocol", "source = ")):
            assert "#" in line, line


@pytest.mark.parametrize("name", SHIPPED)
def test_run_folders_are_complete_and_load(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    summary = make(name, folder)
    assert summary.files == tuple(sorted(p.name for p in folder.iterdir()))
    assert {"run.toml", "scenario.toml", "truth.json"} <= set(summary.files)
    loaded = runfile.load(folder)
    plan = scenario_file.load(name)
    assert loaded.parameters.protocol == plan.protocol
    tags = recording(loaded, "bob")
    assert len(tags) == summary.tags["bob"] > 0
    truth = json.loads((folder / "truth.json").read_text())
    if plan.protocol == "bb84":
        record = read_prepared(folder / "alice.h5")
        assert record.mode == "detected"
        assert record.totals().tolist() == truth["sent"]
        assert sum(truth["tags_by_cause"].values()) == len(tags)
        assert record.sync_string is not None
        assert loaded.parameters.sync_string is not None
        assert loaded.parameters.sync_string.build() == record.sync_string
    else:
        assert len(recording(loaded, "alice")) == summary.tags["alice"]
    assert scenario_file.parse((folder / "scenario.toml").read_text(), "copy") == plan


def test_same_seed_same_files(tmp_path: Path) -> None:
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        make("example", tmp_path / out, seed=seed)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["alice.h5", "bob.ptu", "run.toml", "scenario.toml", "truth.json"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for name in ("alice.h5", "bob.ptu", "run.toml"):
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


@pytest.mark.parametrize("format_name", ["csv", "hdf5", "npz", "qutag", "swabian-dump"])
def test_other_formats_hold_the_same_tags(tmp_path: Path, format_name: str) -> None:
    make("example", tmp_path / "ptu", duration_s=0.005)
    make("example", tmp_path / "other", duration_s=0.005, format_name=format_name)
    tags = []
    for folder in ("ptu", "other"):
        read = recording(runfile.load(tmp_path / folder), "bob")
        tags.append((read.ticks * (read.tick_as / 1e6), np.array(read.channel_ids)[read.channel]))
    np.testing.assert_array_equal(tags[0][0], tags[1][0])
    np.testing.assert_array_equal(tags[0][1], tags[1][1])


def test_the_hint_is_the_arrival_of_pulse_zero(tmp_path: Path) -> None:
    make("example", tmp_path / "run")
    truth = json.loads((tmp_path / "run" / "truth.json").read_text())
    timing = tomllib.loads((tmp_path / "run" / "run.toml").read_text())["timing"]
    assert timing["offset_hint_s"] == pytest.approx(truth["clock"]["bob_minus_alice_s"][0], abs=1e-9)
    plan = scenario_file.load("example")
    assert truth["clock"]["bob_minus_alice_s"][0] == pytest.approx(plan.bob.clock.offset_s + 90 * 4.9e-6, abs=1e-8)


def test_parties_are_not_given_the_truth(tmp_path: Path) -> None:
    make("example", tmp_path / "run")
    document = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert "truth" not in json.dumps(document)
    with h5py.File(tmp_path / "run" / "alice.h5") as file:
        assert set(file) == {"gaps", "codes", "totals"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    make("example", tmp_path / "run", duration_s=0.001)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError, match="never overwritten"):
        make("example", tmp_path / "run", seed=2)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_failures_leave_no_folder(tmp_path: Path) -> None:
    # S-Fifteen's four inputs cannot hold the sync channel
    with pytest.raises(InputError, match="channel 5"):
        make("example", tmp_path / "run", format_name="s15-a1")
    with pytest.raises(InputError, match="cannot be written"):
        make("example", tmp_path / "run", format_name="ttbin")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("loss_db = 2.0", "loss_dB = 2.0", r"loss_dB.*bob.receiver"),
        ('kind = "active"', 'kind = "magic"', r"magic.*bob.receiver.kind"),
        ("efficiency = [0.45, 0.45]", "efficiency = [0.45]", "bob.receiver.efficiency: needs 2 values"),
        ("p_intensity = [0.45, 0.4, 0.15]", "p_intensity = [0.5, 0.4, 0.15]", "add up to 1"),
        ("duration_s = 2.9", "duration_s = -1.0", "duration_s = -1 must lie between"),
        ("duration_s = 2.9", "duration_s = nan", "duration_s = nan must lie between"),
        ("misalignment = 0.006", "misalignment = 0.6", "channel.misalignment"),
        ("tick_as = 5_000_000", "tick_as = 777", "tick_as"),
        ("[sync]", "[synch]", "synch"),
        ("offset_s = 0.0123", "offset_s = 0.0", "bob.clock.offset_s"),
        ("pulse_period_as = ", "pulse_period_as = = ", "not valid TOML"),
        ("gate_ps = ", "gate_ps = 9e9  # ", "timing.gate_ps is wider than the distance of the pulses"),
    ],
)
def test_faulty_scenarios_are_refused_by_name(old: str, new: str, complaint: str) -> None:
    assert old in text("example")
    with pytest.raises(ConfigError, match=complaint) as caught:
        scenario_file.parse(text("example").replace(old, new, 1), "my.toml")
    assert str(caught.value).startswith("my.toml: ")


def test_unknown_scenarios_say_where_to_look() -> None:
    with pytest.raises(ConfigError, match="qkdpp simulate --list"):
        scenario_file.load("nowhere")


def test_the_pass_gives_the_published_sifted_key() -> None:
    """Chen et al. 2021: 58.1 Mbit of sifted key in the pass (signal states of both bases), at most 462 kbit/s."""
    plan = scenario_file.load("satellite-pass")
    source = plan.source
    assert source is not None
    way = build(plan.channel, plan.duration_s)
    assert isinstance(way, PassPath)
    t = np.linspace(0, plan.duration_s, 3641)
    receiver = plan.bob.receiver
    eta = way.transmittance((t * 1e15).astype(np.int64)) * 10 ** (-receiver.loss_db / 10) * receiver.efficiency[0]
    string = plan.sync_string
    assert string is not None
    signals_hz = 1e18 / source.pulse_period_as * source.p_intensity[0] * (1 - string.length / string.frame)
    shares = ((source.p_z, receiver.p_z), (1 - source.p_z, 1 - receiver.p_z))
    sifted_hz = sum(signals_hz * sent * -np.expm1(-source.intensities[0] * seen * eta) for sent, seen in shares)
    clicks_hz = 1e18 / source.pulse_period_as * -np.expm1(-np.outer(source.intensities, eta))
    live = 1 / (1 + np.dot(source.p_intensity, clicks_hz) * plan.timing.dead_time_ns * 1e-9)
    assert np.trapezoid(sifted_hz * live, t) == pytest.approx(58.1e6, rel=0.01)
    assert (sifted_hz * live).max() < 462e3


@pytest.mark.slow
def test_ten_million_tags_of_the_backbone(tmp_path: Path) -> None:
    summary = make("backbone-625mhz", tmp_path / "run", duration_s=20.0)
    assert summary.tags["bob"] > 10_000_000
    truth = json.loads((tmp_path / "run" / "truth.json").read_text())
    for k in range(3):
        for basis, name in enumerate("ZX"):
            sent = sum(truth["sent"][k][basis])
            # a click in the other basis too (some 1e-4 of the clicks) is not counted as a detection in one basis
            expected = truth["expected"][name]["gain"][k] * sent
            got = truth["gated"]["detections"][k][basis][basis] + truth["gated"]["cross_basis"][k][basis]
            assert abs(got - expected) < 4 * expected**0.5 + 2e-3 * expected


EXAMPLE = Path(__file__).parents[2] / "examples" / "fibre"


def test_the_shipped_example_is_small_and_complete() -> None:
    files = {p.name: p.stat().st_size for p in EXAMPLE.iterdir()}
    assert set(files) == {"run.toml", "alice.h5", "bob.ptu"}
    assert sum(files.values()) <= 3_000_000
    loaded = runfile.load(EXAMPLE)
    record = read_prepared(EXAMPLE / "alice.h5")
    assert not record.test_mode
    assert record.n_pulses == 290_000_000
    assert len(recording(loaded, "bob")) > 400_000
