"""What lies on the disk: sealed chunks bound to their columns, data keys that go, a folder for one process, a log."""

import base64
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from stores import NAMES, OUT_S, Ends, kek, secret

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import FormatError, InputError, LocalProtocolError, QkdppError
from qkdpp.keystore import FileWrapping, KeyStore, Limits, StoreError, create_kek, log, writer
from qkdpp.keystore.schema import DATABASE


def rows(ends: Ends, own: str, query: str) -> list[tuple]:
    return ends.stores[own].submit("test", lambda db: db.execute(query).fetchall()).result(OUT_S)


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def forms(key: bytes) -> list[bytes]:
    """Ways in which a key, or half of it, could be written down."""
    parts = [key, key[: len(key) // 2]]
    text = [form for part in parts for form in (part.hex(), part.hex().upper(), repr(part)[2:-1])]
    return parts + [form.encode() for form in text] + [base64.b64encode(part)[:20] for part in parts]


def test_a_reader_of_the_format(ends: Ends) -> None:
    """The one of docs/formats/keystore.md, from the files alone."""
    ends.fill(2, nbytes=40_000)
    for store in ends.stores.values():
        store.close()
    db = sqlite3.connect(ends.folder / "kme-a" / DATABASE)
    (store,) = db.execute("SELECT value FROM meta WHERE name = 'store'").fetchone()
    wrapping = (ends.folder / "kme-a.kek").read_bytes()
    out = b""
    for row in db.execute(
        "SELECT b.id, peer, epoch, number, number & 1, nbits, datakey, b.born, not_after, part, wrapped, nonce, sealed"
        " FROM chunk c JOIN block b ON b.id = c.block JOIN link l ON l.id = b.link JOIN datakey d ON d.id = b.datakey"
        " ORDER BY b.id, part"
    ):
        *bound, wrapped, nonce, sealed = row
        aad = json.dumps(["qkdpp chunk 1", store, *bound], separators=(",", ":")).encode()
        out += AESGCM(keywrap.aes_key_unwrap(wrapping, wrapped)).decrypt(nonce, sealed, aad)
    db.close()
    assert out == secret(2, 40_000)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE block SET number = number + 2",
        "UPDATE block SET nbits = nbits + 1",
        "UPDATE block SET not_after = not_after + 1",
        "UPDATE block SET born = born + 1",
        "UPDATE chunk SET part = part + 10; UPDATE chunk SET part = 11 - part",
        "UPDATE chunk SET sealed = zeroblob(length(sealed))",
        "DELETE FROM chunk WHERE part = 1",
    ],
)
def test_a_changed_column_opens_nothing(ends: Ends, change: str) -> None:
    ends.fill(2, nbytes=40_000)
    ends.meet()
    for statement in change.split(";"):
        rows(ends, "kme-a", statement)
    reservation = ends.a.reserve(1, 40_000, master="m", slaves=["s"]).result(OUT_S)
    with pytest.raises(FormatError):
        ends.a.commit(reservation.key_ids).result(OUT_S)


def test_no_nonce_serves_twice_under_a_data_key(ends: Ends) -> None:
    ends.fill(2, 4)
    with pytest.raises(LocalProtocolError, match="stored before"):
        ends.a.stage(4, Bits.zeros(64))
    ends.fill(6)
    ends.stores["kme-a"].close()
    ends.open("kme-a")
    ends.a.stage(8, Bits.zeros(640))
    used = rows(ends, "kme-a", "SELECT datakey, nonce FROM chunk JOIN block b ON b.id = block")
    assert len(set(used)) == len(used) == 4
    assert len({datakey for datakey, _ in used}) == 2


def test_a_data_key_goes_with_the_last_block_it_sealed(folder: Path) -> None:
    ends = Ends(folder, Limits(rotate_s=100))
    try:
        ends.fill(2)
        ends.now += 100_000_000_000
        ends.fill(4)
        assert len(rows(ends, "kme-a", "SELECT * FROM datakey")) == 2
        ends.meet()
        ends.hand_over("kme-a", 1, 100)
        assert len(rows(ends, "kme-a", "SELECT * FROM datakey")) == 1
        assert rows(ends, "kme-a", "SELECT number, state FROM block WHERE datakey IS NULL") == [(2, "gone")]
        ends.hand_over("kme-a", 1, 28)
        assert len(rows(ends, "kme-a", "SELECT * FROM datakey")) == 1, "the present one stays"
    finally:
        ends.close()


def test_a_new_data_key_stays_though_an_old_one_goes_before_it_serves(folder: Path) -> None:
    """The last key of a block is given out between the commit of a rotation and its first use."""
    ends, waiting = Ends(folder, Limits(rotate_s=100)), []

    def between(point: str) -> None:
        if point == "rotate after commit" and ends.waiting:
            waiting.append(ends.stores["kme-b"].deliver("sae-b", ends.waiting.pop("kme-b"), master="sae-a"))

    try:
        ends.fill(2)
        ends.stores["kme-b"].close()
        ends.open("kme-b", between)
        ends.meet()
        reservation, keys = ends.hand_over("kme-a", 1, 64, ttl_s=1000)
        ends.waiting["kme-b"] = reservation.key_ids
        ends.now += 100_000_000_000
        ends.fill(4)
        (late,) = waiting
        assert [bytes(key.secret) for key in late.result(OUT_S)] == list(keys.values())
        assert len(rows(ends, "kme-b", "SELECT * FROM datakey")) == 1, "the others sealed nothing that is left"
        assert ends.fetch("kme-b", "sae-b", ends.hand_over("kme-a", 1, 64)[0].key_ids)
    finally:
        ends.close()


def test_a_full_disk_loses_what_was_not_promised_and_nothing_else(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    (pages,) = rows(ends, "kme-a", "PRAGMA page_count")[0]
    rows(ends, "kme-a", f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        ends.a.stage(4, Bits.zeros(8 << 20))
    assert ends.a.pending() == {}
    rows(ends, "kme-a", f"PRAGMA max_page_count = {pages + 10_000}")
    ends.fill(4)
    reservation, got = ends.hand_over("kme-a", 1, 128)
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got
    used = rows(ends, "kme-a", "SELECT nonce FROM chunk")
    assert len(set(used)) == len(used)


class Failing(sqlite3.Connection):
    """A disk that fails in the midst of what the writer does by itself."""

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if "wal_checkpoint" in sql:
            raise sqlite3.DatabaseError("database disk image is malformed")
        return super().execute(sql, *parameters)

    def rollback(self) -> None:
        super().rollback()
        raise sqlite3.OperationalError("disk I/O error")


def test_the_writer_outlives_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_S", 0.0)

    def breaks(point: str) -> None:
        if point == "bad before commit":
            raise sqlite3.DatabaseError("disk I/O error")

    db = sqlite3.connect(tmp_path / "db", isolation_level=None, check_same_thread=False, factory=Failing)
    made = writer.Writer(db, breaks)
    made.submit("good", lambda db: db.execute("CREATE TABLE t (a)")).result(OUT_S)
    with pytest.raises(sqlite3.DatabaseError):
        made.submit("bad", lambda db: db.execute("INSERT INTO t VALUES (1)")).result(OUT_S)
    assert made.submit("good", lambda db: db.execute("SELECT * FROM t").fetchall()).result(OUT_S) == []
    made.close()


def test_files_belong_to_their_owner_alone(ends: Ends) -> None:
    for own in NAMES:
        folder = ends.folder / own
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    assert (ends.folder / "kme-a.kek").stat().st_mode & 0o777 == 0o400


def test_one_process_owns_a_store(ends: Ends, folder: Path) -> None:
    with pytest.raises(InputError, match=r"another process owns this key store \(kme-a, opening 1\)"):
        ends.open("kme-a")
    code = (
        "import sys; from pathlib import Path; from qkdpp.keystore.look import expire_now, stock\n"
        "print(stock(Path(sys.argv[1]))[0])\n"
        "try: expire_now(Path(sys.argv[1]))\nexcept Exception as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code, folder / "kme-a"], capture_output=True, text=True, check=True)
    own, refused = said.stdout.splitlines()
    assert own == "kme-a", "to look at, another process may own it"
    assert "another process owns" in refused
    assert "`qkdpp keys get`" in refused, "what to do instead"


def test_surroundings_that_are_refused(ends: Ends, folder: Path) -> None:
    wrapping = kek(folder / "kme-a.kek")
    for store in ends.stores.values():
        store.close()
    ends.stores.clear()
    with pytest.raises(InputError, match="of 'kme-a', not of 'kme-x'"):
        KeyStore(folder / "kme-a", "kme-x", wrapping)
    with pytest.raises(InputError, match="not the key-encrypting key of this store"):
        KeyStore(folder / "kme-a", "kme-a", kek(folder / "another.kek"))
    shutil.copy(folder / "kme-a.kek", folder / "kme-a" / "kek")
    with pytest.raises(InputError, match="in the store that it seals; move it elsewhere"):
        KeyStore(folder / "kme-a", "kme-a", kek(folder / "kme-a" / "kek"))
    (folder / "kme-a").chmod(0o750)
    with pytest.raises(InputError, match="chmod 700"):
        KeyStore(folder / "kme-a", "kme-a", wrapping)
    (folder / "junk").mkdir(mode=0o700)
    (folder / "junk" / DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(FormatError, match="no usable key store"):
        KeyStore(folder / "junk", "kme-a", wrapping)
    with sqlite3.connect(folder / "kme-b" / DATABASE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(FormatError, match="version 99"):
        KeyStore(folder / "kme-b", "kme-b", kek(folder / "kme-b.kek"))
    with KeyStore(folder / "new", "kme-n", wrapping) as store, pytest.raises(InputError, match="both ends"):
        store.link("kme-n")


def test_a_key_encrypting_key_of_another_mode_or_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    create_kek(path, OsEntropy())
    with pytest.raises(InputError, match="exists"):
        create_kek(path, OsEntropy())
    for mode in (0o600, 0o440, 0o404):
        path.chmod(mode)
        with pytest.raises(InputError, match="chmod 400"):
            FileWrapping(path)
    path.chmod(0o600)
    path.write_bytes(bytes(31))
    path.chmod(0o400)
    with pytest.raises(InputError, match="32 bytes"):
        FileWrapping(path)
    with pytest.raises(InputError, match="cannot be read"):
        FileWrapping(tmp_path / "none")


def test_the_pragmas_that_durability_rests_on(ends: Ends) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}
    for name, value in wanted.items():
        assert rows(ends, "kme-a", f"PRAGMA {name}") == [(value,)]


def test_cursors_and_log_cannot_be_turned_back(ends: Ends) -> None:
    ends.fill(2, 4)
    ends.meet()
    ends.hand_over("kme-a", 1, 80)
    for change in (
        "UPDATE cursor SET offset = offset - 1",
        "UPDATE cursor SET block = 2, offset = 1000",
        "UPDATE event SET sae = 'nobody'",
        "DELETE FROM event",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            rows(ends, "kme-a", change)


def test_the_log_tells_who_got_what_and_a_change_shows(ends: Ends) -> None:
    ends.fill(2, 4)
    ends.meet()
    reservation, _ = ends.hand_over("kme-a", 2, 16)
    ends.fetch("kme-b", "sae-b", reservation.key_ids)
    query = "SELECT key_id, sae, link, nbytes FROM event WHERE kind = 'delivered' ORDER BY n"
    ids = [i.bytes for i in reservation.key_ids]
    assert rows(ends, "kme-a", query) == [(i, "sae-a", "kme-b", 16) for i in ids]
    assert rows(ends, "kme-b", query) == [(i, "sae-b", "kme-a", 16) for i in ids]
    store = ends.stores["kme-a"]
    assert store.submit("test", log.first_break).result(OUT_S) is None
    rows(ends, "kme-a", "DROP TRIGGER event_stays")
    rows(ends, "kme-a", "UPDATE event SET sae = 'nobody' WHERE n = 3")
    assert store.submit("test", log.first_break).result(OUT_S) == 3


def test_no_secret_in_files_logs_messages_or_representations(
    ends: Ends, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A planted key, sought in all that both stores write and say, in every likely form."""
    caplog.set_level(logging.DEBUG)
    planted = os.urandom(48)
    said: list[str] = []
    for link in (ends.a, ends.b):
        link.stage(2, Bits.from_bytes(planted, 384))
        link.ready(2)
        link.release(2)
    ends.meet()
    disk = [everything(ends.folder)]
    reservation, got = ends.hand_over("kme-a", 1, 48)
    assert list(got.values()) == [planted]
    disk.append(everything(ends.folder))
    keys = ends.stores["kme-b"].deliver("sae-b", reservation.key_ids, master="sae-a").result(OUT_S)
    said += [repr(keys), repr(ends.stores), repr(ends.a), repr(reservation), repr(ends.a.status().result(OUT_S))]
    for failing in (
        lambda: ends.a.stage(2, Bits.from_bytes(planted, 384)),
        lambda: ends.fetch("kme-b", "sae-b", reservation.key_ids),
        lambda: ends.a.reserve(1, 48, master="m", slaves=["s"]).result(OUT_S),
    ):
        with pytest.raises(QkdppError) as caught:
            failing()
        said.append(repr(caught.value))
    disk.append(everything(ends.folder))
    output = capfd.readouterr()
    written = b"".join(disk) + "".join([*said, caplog.text, output.out, output.err]).encode()
    assert len(written) > 100_000
    assert not [form for form in forms(planted) if form in written]
    keys[0].wipe()
    assert keys[0].secret == bytes(48)
    wrapping = (ends.folder / "kme-a.kek").read_bytes()
    inside = b"".join(everything(ends.folder / own) for own in NAMES)
    assert not [form for form in forms(wrapping) if form in inside]
    assert wrapping.hex() not in repr(FileWrapping(ends.folder / "kme-a.kek"))
