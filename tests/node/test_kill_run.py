"""``qkdpp run`` at both ends, fed by the simulated laboratory, and kill -9 of either or both at random moments."""

import json
import random
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from two_processes import NodeProcess, change, free_port, given_out, laboratory, trial, two_nodes

HERE = Path(__file__).parent
BLOCK_S, FACTOR = 3.0, 0.5
"""Of laboratory time, which runs at half speed: a busy machine keeps up."""
PATIENCE_S = 300.0
NAMES = ("alice", "bob")
HEADER_BYTES, PAD_BYTES = 128, 16


def first_light_s(folder: Path, since: float) -> float | None:
    """Seconds from ``since`` until the newest Bob had his first detections of random states."""
    newest = max((folder / "runs").glob("bob-*"), key=lambda path: path.stat().st_mtime_ns)
    for line in (newest / "log.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "pulse zero has arrived" in entry["message"]:
            at = datetime.fromisoformat(entry["time"]).astimezone(UTC).timestamp()
            if at >= since:
                return at - since
    return None


def until_next_key(nodes: dict[str, NodeProcess], begun: float) -> float:
    """Seconds from ``begun`` until both sides have a key more."""
    before = {name: len(node.secret_blocks()) for name, node in nodes.items()}
    while any(len(node.secret_blocks()) <= before[name] for name, node in nodes.items()):
        for node in nodes.values():
            assert node.process.poll() is None, node.errors.read_text()
        assert time.time() - begun < PATIENCE_S, {name: node.errors.read_text()[-2000:] for name, node in nodes.items()}
        time.sleep(0.1)
    return time.time() - begun


def check_pads(folder: Path, name: str, original: bytes) -> int:
    """No pad was given out or taken in twice, over all lives of the node; used ones are gone from the file."""
    pool = (folder / f"{name}.pool").read_bytes()
    n_tags = (len(original) - HEADER_BYTES) // (2 * PAD_BYTES)
    words = [line.split() for line in (folder / f"{name}.pool.pads").read_text().splitlines()]
    for verb, lane in (("take", NAMES.index(name)), ("accept", 1 - NAMES.index(name))):
        used = [int(index) for what, index in words if what == verb]
        assert len(set(used)) == len(used)
        for index in used:
            at = HEADER_BYTES + PAD_BYTES * (n_tags * lane + index % n_tags)
            assert index >= n_tags or pool[at : at + PAD_BYTES] != original[at : at + PAD_BYTES]
    return len(words)


def kill_at_random_moments(folder: Path, kills: int, seed: int) -> str:
    """What was measured, in words."""
    rng, light_s, key_s = random.Random(seed), [], []
    trial(folder, block_s=BLOCK_S, loss_db=23.0, metrics=free_port())
    change(folder / "lab.toml", {"factor": FACTOR})
    for name in NAMES:
        change(folder / f"{name}.toml", {"tags": "false", "entropy": "false"})
    original = (folder / "alice.pool").read_bytes()
    program = (str(HERE / "noted_run.py"),)
    with laboratory(folder), two_nodes(folder, program=program) as both:
        nodes = dict(zip(NAMES, both, strict=True))
        until_next_key(nodes, time.time())
        for _ in range(kills):
            time.sleep(rng.random() * BLOCK_S / FACTOR)
            victims = rng.choice([("alice",), ("bob",), NAMES])
            for name in victims:
                nodes[name].process.kill()
                nodes[name].process.wait(10)
            begun = time.time()
            for name in victims:
                nodes[name].__post_init__()
            key_s.append(until_next_key(nodes, begun))
            if "bob" in victims:
                light_s.append(first_light_s(folder, begun))
        assert [node.stop() for node in both] == [0, 0]
    assert None not in light_s
    scans = [len(list(run.glob("calibration/*-delay.json"))) for run in (folder / "runs").glob("bob-*")]
    pads = [check_pads(folder, name, original) for name in NAMES]
    n_bytes = sum(map(len, given_out(folder).values()))
    rows = [
        json.loads(line)
        for run in (folder / "runs").glob("bob-*")
        for line in (run / "blocks.jsonl").read_text().splitlines()
    ]
    lost = sum(not row["secret_bits"] for row in rows)
    return (
        f"{kills} kills, {sum(scans)} calibrations; detections {_spread(light_s)} after the start of a killed Bob, "
        f"a key on both sides {_spread(key_s)}; {len(rows)} blocks, {lost} without a key; "
        f"{n_bytes} bytes in each store, the same; pads noted {pads}"
    )


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.1f} to {max(seconds):.1f} s (median {statistics.median(seconds):.1f} s)"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_kills(tmp_path):
    print("\n" + kill_at_random_moments(tmp_path / "trial", 50, seed=1))
