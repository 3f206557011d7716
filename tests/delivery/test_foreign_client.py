"""The client etsi-qkd-014-client from PyPI, as it is, against both servers."""

import base64

import pytest
from worlds import World

foreign = pytest.importorskip("etsi_qkd_014_client", reason="needs the package etsi-qkd-014-client")


def client(world: World, sae: str):
    files = [str(world.pki / name) for name in (f"{sae}.pem", f"{sae}.key", "authority.pem")]
    return foreign.QKD014Client(f"127.0.0.1:{world.ports[world.home(sae)]}", *files)


def test_keys_move_and_errors_are_understood(world: World) -> None:
    master, slave = client(world, "sae-a"), client(world, "sae-b")
    code, status = master.get_status("sae-b")
    assert (code, status.key_size, status.source_kme_id) == (200, 256, "kme-a")
    code, got = master.get_key("sae-b", number=2, size=128, additional_slave_sae_ids=["sae-b2"])
    assert (code, len(got.keys)) == (200, 2)
    keys = {key.key_id: key.key for key in got.keys}
    assert {len(base64.b64decode(key, validate=True)) for key in keys.values()} == {16}
    code, fetched = slave.get_key_with_key_IDs("sae-a", list(keys))
    assert (code, {key.key_id: key.key for key in fetched.keys}) == (200, keys)
    code, error = slave.get_key_with_key_IDs("sae-a", list(keys))
    assert (code, error.message) == (400, "one or more keys specified are not found on KME")
    code, got = master.get_key("sae-b")
    assert (code, len(got.keys)) == (200, 1)
    code, error = client(world, "stranger").get_key("sae-b")
    assert code == 401
    assert error.message
