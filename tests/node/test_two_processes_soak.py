"""Ten minutes of two processes: fibre and clock wander, somebody touches the fibre, both nodes are killed once."""

import json
import time

import pytest
from two_processes import NodeProcess, free_port, given_out, laboratory, qkdpp, trial, two_nodes, whole_bytes

from qkdpp.core.keyfile import read_key

SECONDS = 600.0


def replayed(run):
    done = qkdpp("replay", str(run), "--json")
    assert done.returncode == 0, done.stderr
    blocks = [json.loads(line) for line in done.stdout.splitlines()]
    out = run.with_name(run.name + "-replay")
    return {b["block"]: read_key(out / f"{b['block']}.test.key", b["secret_bits"]) for b in blocks if b["secret_bits"]}


def runs(folder, name):
    return [path for path in (folder / "runs").glob(f"{name}-*") if "replay" not in path.name]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_minutes_of_keys(tmp_path):
    folder, begun = tmp_path / "trial", time.monotonic()
    trial(folder, block_s=6.0, loss_db=26.0, metrics=free_port())
    with laboratory(folder) as lab, two_nodes(folder) as (alice, bob):
        bob.wait_for_keys(2)
        print("fibre jump", file=lab.stdin, flush=True)
        bob.wait_for_keys(6)
        bob.process.kill()
        bob.process.wait(10)
        again = NodeProcess(folder, "bob")
        try:
            again.wait_for_keys(2)
            alice.process.kill()
            alice.process.wait(10)
            alice.__post_init__()
            while time.monotonic() - begun < SECONDS:
                assert again.process.poll() is None, again.errors.read_text()
                assert alice.process.poll() is None, alice.errors.read_text()
                time.sleep(1.0)
            assert again.stop() == 0
            assert alice.stop() == 0
        finally:
            again.process.kill()
    reasons = [path.name for run in runs(folder, "bob") for path in (run / "calibration").glob("*-polarisation.json")]
    assert len(reasons) >= 2, "the first start of Bob and the touched fibre; a killed Bob goes on with the last"
    keys = {
        name: {block: key for run in runs(folder, name) for block, key in replayed(run).items()}
        for name in ("alice", "bob")
    }
    both = keys["alice"].keys() & keys["bob"].keys()
    assert all(keys["alice"][block].equals(keys["bob"][block]) for block in both)
    streams = given_out(folder)
    stored = sum(map(len, streams.values()))
    print(f"\n{len(both)} blocks replayed at both ends, {stored} bytes in each store, {time.monotonic() - begun:.0f} s")
    assert stored
    inside = [any(whole_bytes(keys["bob"][block]) in stream for stream in streams.values()) for block in both]
    assert sum(inside) >= len(both) - 2, "a key that was in doubt at a kill is burned at both ends"
