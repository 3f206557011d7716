"""A key-encrypting key inside a PKCS#11 token: SoftHSM2 stands for the hardware."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stores import OUT_S, secret

from qkdpp.core.bits import Bits
from qkdpp.core.errors import InputError
from qkdpp.delivery.config import load_delivery
from qkdpp.keystore import FileWrapping, KeyStore, TokenWrapping, wrapping_of
from qkdpp.node.config import load_node
from qkdpp.node.store import open_store
from qkdpp.scenarios.scenario_file import load
from qkdpp.sim.trial import write_trial

MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")]
MODULE = next((path for path in MODULES if path.exists()), None)


@pytest.fixture(scope="module")
def pin(tmp_path_factory: pytest.TempPathFactory):
    """A token in a folder of its own; the library reads its place once per process."""
    if MODULE is None or shutil.which("softhsm2-util") is None:
        pytest.skip("needs Debian package softhsm2")
    pytest.importorskip("pkcs11", reason="needs the extra hsm: pip install 'qkdpp[hsm]'")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    pin_file = folder / "pin"
    pin_file.write_text("123456\n")
    pin_file.chmod(0o400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "qkd", "--so-pin", "654321", "--pin", "123456"],
            check=True,
            capture_output=True,
        )
        yield pin_file


def test_a_store_under_a_token(pin: Path, tmp_path: Path) -> None:
    assert MODULE is not None
    with pytest.raises(InputError, match="0 AES keys"):
        TokenWrapping(MODULE, "qkd", "store", pin)
    wrapping = TokenWrapping(MODULE, "qkd", "store", pin, create=True)
    assert "123456" not in repr(wrapping)
    data_key = secret(1, 32)
    assert len(wrapping.wrap(data_key)) == 40
    assert TokenWrapping(MODULE, "qkd", "store", pin).unwrap(wrapping.wrap(data_key)) == data_key
    with KeyStore(tmp_path / "store", "kme-a", wrapping) as store:
        store.link("kme-b").stage(2, Bits.from_bytes(secret(2, 64), 512))
    other = TokenWrapping(MODULE, "qkd", "other", pin, create=True)
    with pytest.raises(InputError, match="not the key-encrypting key"):
        KeyStore(tmp_path / "store", "kme-a", other)
    with KeyStore(tmp_path / "store", "kme-a", wrapping) as store:
        assert store.link("kme-b").pending() == {2: 512}
        assert store.link("kme-b").status().result(OUT_S).pending == 64


def test_the_key_never_leaves_the_token(pin: Path) -> None:
    import pkcs11

    assert MODULE is not None
    TokenWrapping(MODULE, "qkd", "kept", pin, create=True)
    with pkcs11.lib(str(MODULE)).get_token(token_label="qkd").open(user_pin="123456") as session:
        (key,) = session.get_objects({pkcs11.Attribute.LABEL: "kept"})
        with pytest.raises(pkcs11.PKCS11Error):
            key[pkcs11.Attribute.VALUE]


def test_wrong_token_pin_or_library(pin: Path, tmp_path: Path) -> None:
    assert MODULE is not None
    with pytest.raises(InputError, match="not usable"):
        TokenWrapping(MODULE, "nothing", "store", pin)
    with pytest.raises(InputError, match="not usable"):
        TokenWrapping(tmp_path / "none.so", "qkd", "store", pin)
    wrong = tmp_path / "pin"
    wrong.write_text("000000")
    wrong.chmod(0o644)
    with pytest.raises(InputError, match="chmod 400"):
        TokenWrapping(MODULE, "qkd", "store", wrong)
    wrong.chmod(0o400)
    with pytest.raises(InputError, match="not usable") as caught:
        TokenWrapping(MODULE, "qkd", "store", wrong)
    assert "000000" not in str(caught.value)


def test_node_and_delivery_files_name_a_key_in_a_token(pin: Path, tmp_path: Path) -> None:
    """The node makes the key with its store; `qkdpp serve` opens the same store by the same words."""
    folder = tmp_path / "link"
    write_trial(folder, "backbone-625mhz", load("backbone-625mhz"), port=1, block_s=10.0)
    uri = f"pkcs11:token=qkd;object=of%20alice?module-path={MODULE}&pin-source=file:{pin}"
    for name in ("alice.toml", "kme-alice.toml"):
        text = (folder / name).read_text(encoding="utf-8")
        assert '"alice.store.key"' in text
        text = text.replace('"alice.store.key"', f'"{uri}"').replace("127.0.0.1:2", "127.0.0.1:0")
        (folder / name).write_text(text.replace("127.0.0.1:4", "127.0.0.1:0"), encoding="utf-8")
    with open_store(load_node(folder / "alice.toml"), lambda _: None) as store:
        store.link("bob").stage(2, Bits.from_bytes(secret(2, 64), 512))
    assert not (folder / "alice.store.key").exists()
    wrapping = wrapping_of(load_delivery(folder / "kme-alice.toml").store.key, folder, create=False)
    assert "of alice" in repr(wrapping)
    command = [sys.executable, "-P", "-m", "qkdpp", "serve", str(folder / "kme-alice.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        try:
            line = served.stdout.readline()
            served.send_signal(signal.SIGTERM)
            assert (served.wait(OUT_S), line[:30]) == (0, "alice: applications on 127.0.0")
        finally:
            served.kill()


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("pkcs11:token=qkd;object=a?module-path=/x.so", "pin-source"),
        ("pkcs11:token=qkd;object=a;pin-value=1?module-path=/x.so&pin-source=p", "pin-value not known"),
        ("pkcs11:", "token"),
    ],
)
def test_a_uri_that_does_not_fit(tmp_path: Path, uri: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        wrapping_of(uri, tmp_path, create=True)


def test_a_file_is_made_only_where_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        wrapping_of("a.kek", tmp_path, create=False)
    made = wrapping_of("a.kek", tmp_path, create=True)
    assert isinstance(made, FileWrapping)
    assert wrapping_of("a.kek", tmp_path, create=True).unwrap(made.wrap(secret(1, 32))) == secret(1, 32)
