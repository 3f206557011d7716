"""``qkdpp init --live --scenario pair-lab``: two receivers on two TDC1, keys, and a replay that gives them again."""

import pytest
from two_processes import change, free_port, given_out, laboratory, qkdpp, two_nodes, whole_bytes

from qkdpp.core.keyfile import read_key
from qkdpp.node.replay import open_run, replay_run

pytestmark = pytest.mark.xdist_group("live")

BLOCKS = 2


def replayed(run):
    out = run.with_name(run.name + "-replay")
    blocks = [done for done in replay_run(open_run(run, None), out) if done.secret_bits]
    return {done.block: read_key(out / f"{done.block}.test.key", done.secret_bits) for done in blocks}


def test_a_pair_link_to_try_and_its_replay(tmp_path):
    folder = tmp_path / "link"
    port = free_port()
    done = qkdpp("init", "--live", str(folder), "--scenario", "pair-lab", "--port", str(port), "--block-s", "4")
    assert done.returncode == 0, done.stderr
    for name in ("alice", "bob"):
        change(folder / f"{name}.toml", {"look_back_s": 0.5})
    with laboratory(folder), two_nodes(folder) as (alice, bob):
        bob.wait_for_keys(BLOCKS)
        alice.wait_for_keys(BLOCKS)
        assert (bob.stop(), alice.stop()) == (0, 0)
    keys = {node.name: replayed(node.run) for node in (alice, bob)}
    assert len(keys["alice"]) >= BLOCKS
    assert keys["alice"].keys() == keys["bob"].keys()
    assert all(key.equals(keys["bob"][block]) for block, key in keys["alice"].items())
    stored = b"".join(given_out(folder).values())
    assert len(stored) == sum(len(whole_bytes(key)) for key in keys["bob"].values())
    assert all(whole_bytes(key) in stored for key in keys["bob"].values())
