"""The main job as a user types it: exit codes, files, figures."""

import hashlib
import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fibre"
DATA = ROOT.parent / "shared" / "data"


def qkdpp(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "qkdpp", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        timeout=500,
    )


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in sorted(folder.iterdir()))).hexdigest()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    out = tmp_path_factory.mktemp("example") / "out"
    before = digest(EXAMPLE)
    done = qkdpp("distill", EXAMPLE, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert digest(EXAMPLE) == before, "running the example changed it"
    return json.loads(done.stdout), out


REQUIRED = [
    "protocol",
    "claim",
    "tags_read",
    "lost_tags",
    "clock",
    "detections",
    "sifted_bits",
    "qber",
    "leak_ec_bits",
    "leak_alice_bits",
    "leak_bob_bits",
    "f_ec",
    "f_total",
    "verification_bits",
    "auth_bits_used",
    "secret_bits",
    "net_secret_bits",
    "secret_bits_asymptotic",
    "eps_sec",
    "eps_cor",
    "eps_auth",
    "abort",
    "stages",
    "versions",
]


def test_the_conditions_of_the_block_are_reported(example):
    report, _ = example
    drift = report["drift"]
    assert (drift["rule"], drift["drifted"]) == ("merge", [])
    assert len(drift["segments"]["detections"]) == 10
    assert sum(drift["segments"]["detections"]) == report["sifted_bits"]
    assert sum(drift["segments"]["wrong"]) == report["matrix"][2][3] + report["matrix"][3][2]
    assert drift["chi_square"]["qber"]["p"] > 1e-6
    assert drift["unlimited_bits_separate"] == pytest.approx(drift["unlimited_bits_merged"], rel=0.1)
    assert report["mismatch"]["untagged"] == {"Z": 1.0, "X": 1.0}  # declared equal, known exactly: nothing to correct
    assert report["accumulated"]["hops"] == 1
    assert report["accumulated"]["eps_year"] == report["eps_accumulated_year"]
    assert set(report["secret_bits_by_profile"]) == {"V", "L", "T"}
    assert report["rule_note"] is None


def test_declared_detectors_hops_and_split_show_in_the_report(tmp_path, example):
    plain, _ = example
    text = (EXAMPLE / "run.toml").read_text()
    changed = text.replace("[security]", "[security]\nhops = 5").replace("tolerance = 0.0", "tolerance = 0.01")
    folder = tmp_path / "run"
    shutil.copytree(EXAMPLE, folder)
    (folder / "run.toml").write_text(changed)
    done = qkdpp("distill", folder, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["claim"]["level"] == "composable"
    assert report["mismatch"]["corrected"]
    assert report["mismatch"]["untagged"]["Z"] == pytest.approx(0.99 / 1.01)
    assert [p["corrected"] for p in report["claim"]["passed"] if p["name"] == "efficiency_mismatch"] == [
        pytest.approx(0.99 / 1.01)
    ]
    assert any("untagged" in note for note in report["key_length"]["notes"])
    assert report["key_length"]["single_photon_bits"] < plain["key_length"]["single_photon_bits"]
    assert report["accumulated"]["eps_year"] == pytest.approx(5 * report["eps_accumulated_year"])


def test_the_report_has_every_field_and_the_balance_closes(example):
    report, _ = example
    assert not [name for name in REQUIRED if name not in report]
    assert report["abort"] is None
    assert report["claim"]["level"] == "composable"
    assert report["net_secret_bits"] == report["secret_bits"] - report["auth_bits_used"]
    assert 0 < report["secret_bits"] < report["secret_bits_asymptotic"] < report["key_basis_bits"]
    assert report["leak_ec_bits"] == report["leak_by_rule"]["public_errors"] < report["leak_by_rule"]["both"]
    assert report["secret_bits_by_rule"]["both"] < report["secret_bits_by_rule"]["public_errors"]
    assert report["ledger_recount"]["agrees"]
    assert report["f_ec"] >= 1.0
    stages = {stage["name"]: stage for stage in report["stages"]}
    assert np.sum(report["matrix"]) + report["not_held"] == stages["announced"]["count"]
    assert (
        stages["gated"]["count"] == stages["announced"]["count"] + stages["announced"]["lost"] == report["detections"]
    )
    assert stages["tags"]["count"] == stages["gated"]["count"] + stages["gated"]["lost"] == report["tags_read"]["bob"]
    assert stages["verified"]["count"] == stages["estimated"]["count"] + stages["estimated"]["lost"]
    terms = report["key_length"]["terms"]
    assert int(sum(terms.values())) == report["secret_bits"]
    assert -terms["error correction"] == report["leak_ec_bits"]


def test_both_keys_are_equal_private_and_as_long_as_stated(example):
    report, out = example
    keys = [(out / name).read_bytes() for name in ("alice.key", "bob.key")]
    assert keys[0] == keys[1]
    assert len(keys[0]) == -(-report["secret_bits"] // 8)
    for name in ("alice.key", "bob.key"):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600
    share = np.unpackbits(np.frombuffer(keys[0], dtype=np.uint8)).mean()
    assert abs(share - 0.5) < 5 / (2 * np.sqrt(report["secret_bits"]))


def test_the_page_is_self_contained_and_nothing_shows_the_key(example):
    report, out = example
    page = (out / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    key = (out / "alice.key").read_bytes()
    for name in ("report.json", "report.html", "transcript"):
        content = (out / name).read_bytes()
        assert key[:16] not in content
        assert key[:8].hex().encode() not in content
    assert str(report["secret_bits"]) in page.replace(",", "")


def test_results_are_never_overwritten(example):
    _, out = example
    before = digest(out)
    done = qkdpp("distill", EXAMPLE, "-o", out)
    assert done.returncode == 2
    assert str(out) in done.stderr
    assert digest(out) == before


def test_too_little_data_is_an_honest_zero(tmp_path):
    done = qkdpp("distill", EXAMPLE, "--to", 0.3, "-o", tmp_path / "out", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert report["secret_bits"] == 0
    assert report["abort"]["reason"] == "no_key_left"
    assert report["abort"]["evidence"]["detections_needed"] > report["sifted_bits"]
    assert not list((tmp_path / "out").glob("*.key"))
    assert (tmp_path / "out" / "report.html").exists()


def test_a_scan_reads_once_and_shows_the_gate(tmp_path):
    done = qkdpp("distill", EXAMPLE, "--scan", "gate_ps=100:700:300", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["gate_ps"] for row in rows] == [100, 400, 700]
    assert rows[0]["sifted_bits"] < rows[1]["sifted_bits"] <= rows[2]["sifted_bits"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["distill", "absent"], "qkdpp init"),
        (["distill", EXAMPLE, "--scan", "gate=1:2:3"], "gate_ps"),
        (["reconcile", "absent", "absent"], "absent"),
        (["info", EXAMPLE / "run.toml"], "run.toml"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_2(arguments, says, tmp_path):
    done = qkdpp(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pool_on_disk_is_consumed_and_runs_dry(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("alice.h5", "bob.ptu"):
        (run / name).symlink_to(EXAMPLE / name)
    text = (EXAMPLE / "run.toml").read_text()
    text = text.replace('record = "alice.h5"', 'record = "alice.h5"\npool = "pool"')
    text = text.replace('files = ["bob.ptu"]', 'files = ["bob.ptu"]\npool = "pool.bob"')
    (run / "run.toml").write_text(text)
    assert qkdpp("keys", "pool", run / "pool", "--tags", 5).returncode == 0
    assert stat.S_IMODE((run / "pool").stat().st_mode) == 0o600
    first = qkdpp("distill", run, "-o", tmp_path / "first", "--json")
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert report["auth"]["pool"] == "file"
    assert report["auth_bits_used"] == 128 * report["auth"]["tags"]
    second = qkdpp("distill", run, "-o", tmp_path / "second", "--json")
    assert second.returncode == 3
    assert json.loads(second.stdout)["abort"]["reason"] == "pool_exhausted"
    assert not list((tmp_path / "second").glob("*.key"))


# --- real recordings ------------------------------------------------------------------------------------------------

KWIAT = DATA / "kwiat_spdc" / "Alice1_Bob1_with_delays.txt"
LINZ = DATA / "eqkd_linz"
CHANNELS = {"alice": (0, 1, 2, 3), "bob": (4, 5, 6, 7)}


def write_kwiat(folder: Path, change=lambda ticks: ticks, cut: int = 0) -> Path:
    """One file per party; Bob's first ``cut`` ticks are missing and his clock reads ``change(ticks)``."""
    if not KWIAT.exists():
        pytest.skip("the recordings of ../shared/data are not here")
    channel, ticks = np.loadtxt(KWIAT, dtype=np.int64, unpack=True)
    lines = ['format = 1\nprotocol = "bbm92"\n']
    folder.mkdir()
    for party, ids in CHANNELS.items():
        own = (channel >= ids[0]) & (channel <= ids[3])
        if party == "bob":
            own &= ticks >= ticks[0] + cut
        at = change(ticks[own]) if party == "bob" else ticks[own]
        np.savetxt(folder / f"{party}.txt", np.column_stack([channel[own], at]), fmt="%d")
        lines.append(f'[{party}]\nfiles = ["{party}.txt"]\ntick_as = 78125000\n[{party}.channels]\n')
        lines += [f'{i} = "{role}"\n' for i, role in zip(ids, ("Z0", "Z1", "X0", "X1"), strict=True)]
    (folder / "run.toml").write_text("".join(lines))
    return folder


@pytest.mark.recordings
def test_entangled_pairs_recorded_by_others(tmp_path):
    done = qkdpp("distill", write_kwiat(tmp_path / "run"), "-o", tmp_path / "out", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (3 if report["abort"] else 0)
    assert 9_000 <= report["sifted_bits"] <= 10_500
    assert 0.040 <= report["qber"]["total"] <= 0.048
    assert report["ledger_recount"]["agrees"]
    assert report["key_basis_bits"] > 7_000
    failed = {p["name"] for p in report["claim"]["failed"]} if report["abort"] is None else set()
    if report["abort"] is None:
        assert report["claim"]["level"] == "estimate"
        assert any(name.startswith("equal_bits") for name in failed)
    assert set(report["secret_bits_by_rule"]) == {"public_errors", "both"}
    assert set(report["delays_ps"]["alice"]) == set(report["delays_ps"]["bob"]) == {"Z0", "Z1", "X0", "X1"}


@pytest.mark.recordings
def test_a_cut_and_bent_clock_costs_only_the_missing_time(tmp_path):
    tick_s = 78.125e-12
    reports = []
    for name, cut_s, bend in (("plain", 0.0, (0.0, 0.0)), ("bent", 0.010, (0.2, 1e-5))):
        run = write_kwiat(
            tmp_path / name,
            lambda t, bend=bend: t + round(bend[0] / tick_s) + np.rint(bend[1] * t).astype(np.int64),
            round(cut_s / tick_s),
        )
        done = qkdpp("distill", run, "-o", tmp_path / f"{name}.out", "--json")
        reports.append(json.loads(done.stdout))
    plain, bent = reports
    expected = plain["sifted_bits"] * (98.36 - 10) / 98.36
    assert abs(bent["sifted_bits"] / expected - 1) < 0.02
    assert abs(bent["clock"]["line_rate_ppm"] - 10) < 0.05


@pytest.mark.recordings
def test_sifted_keys_recorded_by_others(tmp_path):
    if not LINZ.exists():
        pytest.skip("the recordings of ../shared/data are not here")
    files = [LINZ / f"icons_Key_{name}_v2.txt" for name in ("Alice", "Bob")]
    done = qkdpp("reconcile", *files, "-o", tmp_path / "out", "--phase-error", 0.04, "--json")
    assert done.returncode == 0, done.stderr
    sheet = json.loads(done.stdout)
    assert sheet["sifted_bits"] == 74_800
    assert round(100 * sheet["qber"], 2) == 3.05
    assert sheet["claim"] == "none"
    assert "assumed by the user" in sheet["assumption"]
    assert 1.0 <= sheet["f_ec"] < 1.3
    assert sheet["health"]["alice"]["bias"] != 0
    keys = [(tmp_path / "out" / f"{name}.key").read_bytes() for name in ("alice", "bob")]
    assert keys[0] == keys[1]
    assert len(keys[0]) == -(-sheet["secret_bits"] // 8)


@pytest.mark.recordings
def test_a_repeated_key_is_refused(tmp_path):
    if not LINZ.exists():
        pytest.skip("the recordings of ../shared/data are not here")
    files = [LINZ / f"icons_Key_{name}_v1.txt" for name in ("Alice", "Bob")]
    done = qkdpp("reconcile", *files, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "1754" in done.stdout
    assert not list((tmp_path / "out").glob("*.corrected"))
