"""A key-encrypting key inside a PKCS#11 token: SoftHSM2 stands for the hardware."""

import shutil
import subprocess
from pathlib import Path

import pytest
from stores import OUT_S, secret

from qkdpp.core.bits import Bits
from qkdpp.core.errors import InputError
from qkdpp.keystore import KeyStore, TokenWrapping

MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")]
MODULE = next((path for path in MODULES if path.exists()), None)
pytestmark = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None, reason="needs Debian package softhsm2"
)


@pytest.fixture(scope="module")
def pin(tmp_path_factory: pytest.TempPathFactory):
    """A token in a folder of its own; the library reads its place once per process."""
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
