"""Alice's record: the format page is the specification, its reference reader the oracle."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError, QkdppError
from qkdpp.core.sync_string import SyncString
from qkdpp.sources.prepared import PreparedHeader, PreparedRecord, read_prepared, write_prepared
from qkdpp.sources.prepared_write import DetectedStates, FullStates, PatternStates, SeedStates, States

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "prepared.md"
SEED = bytes(range(32))
STRING = SyncString(seed=bytes(range(1, 33)), length=3, frame=20)


def reference_reader() -> Callable[[Path], dict[int, int]]:
    found = re.search(r"## Reference reader\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    namespace: dict[str, Any] = {}
    exec(found.group(1), namespace)
    read: Callable[[Path], dict[int, int]] = namespace["read"]
    return read


def header(n_pulses: int = 1000, *, string: SyncString | None = None, k: int = 3) -> PreparedHeader:
    return PreparedHeader(
        n_pulses=n_pulses,
        pulse_period_as=1_600_000_000,
        intensities=tuple(np.linspace(0.6, 0.0, k).tolist()),
        p_intensity=(0.75,) + (0.25 / (k - 1),) * (k - 1),
        p_z=0.9,
        sync_string=string,
    )


def all_codes(head: PreparedHeader, rng: np.random.Generator) -> NDArray[np.uint8]:
    codes = rng.integers(0, head.n_codes, head.n_pulses).astype(np.uint8)
    pulses = np.arange(head.n_pulses)
    if head.sync_string is not None:
        mask = head.sync_string.mask(pulses)
        codes[mask] = head.sync_string.states(pulses[mask])
    return codes


def table(head: PreparedHeader, codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Totals by a plain loop."""
    totals = np.zeros((len(head.intensities), 2, 2), dtype=np.int64)
    for pulse, code in enumerate(codes.tolist()):
        if head.sync_string is None or pulse % head.sync_string.frame >= head.sync_string.length:
            totals[code >> 2, code >> 1 & 1, code & 1] += 1
    return totals


def detected(head: PreparedHeader, codes: NDArray[np.uint8], held: NDArray[np.int64], piece: int = 7) -> DetectedStates:
    cuts = range(0, held.size, piece)
    return DetectedStates(
        pieces=[(held[i : i + piece], codes[held[i : i + piece]]) for i in cuts], totals=lambda: table(head, codes)
    )


def states(mode: str, head: PreparedHeader, rng: np.random.Generator) -> tuple[States, NDArray[np.uint8] | None]:
    codes = all_codes(head, rng)
    held = np.flatnonzero(rng.random(head.n_pulses) < 0.3)
    match mode:
        case "full":
            return FullStates(codes=np.array_split(codes, 9)), codes
        case "detected":
            return detected(head, codes, held), codes
        case "pattern":
            return PatternStates(codes=rng.integers(0, head.n_codes, 37).astype(np.uint8)), None
        case _:
            return SeedStates(seed=SEED), None


@pytest.mark.parametrize("mode", ["full", "detected", "pattern", "seed"])
@pytest.mark.parametrize("string", [None, STRING])
@pytest.mark.parametrize("k", [2, 4, 5])
def test_records_read_back_as_the_reference_reader_says(
    tmp_path: Path, mode: str, string: SyncString | None, k: int
) -> None:
    head = header(997, string=string, k=k)
    path = tmp_path / "alice.h5"
    written, codes = states(mode, head, np.random.default_rng(1))
    write_prepared(path, head, written)
    record, expected = read_prepared(path), reference_reader()(path)
    assert (record.mode, record.header) == (mode, head)
    assert record.test_mode is (mode in ("pattern", "seed"))
    asked = np.random.default_rng(2).permutation(np.arange(-5, head.n_pulses + 5))
    assert record.lookup(asked).tolist() == [expected.get(int(i), 255) for i in asked]
    sent = np.array([expected[i] for i in range(head.n_pulses)], dtype=np.uint8) if codes is None else codes
    np.testing.assert_array_equal(record.totals(), table(head, sent))


def test_the_bytes_of_the_page_s_example(tmp_path: Path) -> None:
    head = header(8)
    codes = np.array([0, 1, 2, 3, 4, 5, 10, 11], dtype=np.uint8)
    write_prepared(tmp_path / "full.h5", head, FullStates(codes=[codes[:3], codes[3:]]))
    write_prepared(tmp_path / "some.h5", head, detected(head, codes, np.array([1, 2, 7])))
    with h5py.File(tmp_path / "full.h5") as full, h5py.File(tmp_path / "some.h5") as some:
        assert full["codes"][:].tobytes().hex() == "103254ba"
        assert (some["gaps"][:].tolist(), some["codes"][:].tobytes().hex()) == ([1, 1, 5], "210b")


def test_more_than_one_chunk(tmp_path: Path) -> None:
    head = header(700_001, string=SyncString(seed=SEED, length=10, frame=5000))
    rng = np.random.default_rng(3)
    codes = all_codes(head, rng)
    held = np.flatnonzero(rng.random(head.n_pulses) < 0.9)
    pulses = np.arange(head.n_pulses)
    counted = np.bincount(codes[~head.sync_string.mask(pulses)], minlength=12).reshape(3, 2, 2)  # type: ignore[union-attr]
    write_prepared(tmp_path / "a.h5", head, FullStates(codes=np.array_split(codes, 11)))
    pieces = [(part, codes[part]) for part in np.array_split(held, 5)]
    write_prepared(tmp_path / "b.h5", head, DetectedStates(pieces=pieces, totals=lambda: counted))
    full, some = read_prepared(tmp_path / "a.h5"), read_prepared(tmp_path / "b.h5")
    np.testing.assert_array_equal(full.lookup(pulses), codes)
    looked_up = some.lookup(pulses)
    np.testing.assert_array_equal(looked_up[held], codes[held])
    assert (looked_up == 255).sum() == head.n_pulses - held.size
    np.testing.assert_array_equal(full.totals(), counted)
    np.testing.assert_array_equal(some.totals(), counted)


def test_seed_mode_has_the_declared_probabilities(tmp_path: Path) -> None:
    head = header(400_000)
    write_prepared(tmp_path / "a.h5", head, SeedStates(seed=SEED))
    totals = read_prepared(tmp_path / "a.h5").totals()
    p_basis = np.array([0.9, 0.1])
    expected = head.n_pulses * np.einsum("k,b->kb", np.array(head.p_intensity), p_basis)[..., None] / 2
    assert (np.abs(totals - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("n", [0, 1, 19, 20, 21, 36, 37, 41, 5000])
def test_pattern_totals_at_awkward_lengths(tmp_path: Path, n: int) -> None:
    head = header(n, string=STRING)
    pattern = np.random.default_rng(4).integers(0, 12, 37).astype(np.uint8)
    write_prepared(tmp_path / "a.h5", head, PatternStates(codes=pattern))
    record = read_prepared(tmp_path / "a.h5")
    np.testing.assert_array_equal(record.totals(), table(head, record.lookup(np.arange(n))))


def test_empty_records(tmp_path: Path) -> None:
    head = header(50)
    nothing = DetectedStates(pieces=[], totals=lambda: table(head, np.zeros(50, dtype=np.uint8)))
    write_prepared(tmp_path / "a.h5", head, nothing)
    assert set(read_prepared(tmp_path / "a.h5").lookup(np.arange(50)).tolist()) == {255}
    write_prepared(tmp_path / "b.h5", header(0), FullStates(codes=[]))
    assert read_prepared(tmp_path / "b.h5").lookup(np.array([0])).tolist() == [255]


def test_nothing_is_overwritten_and_failures_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(InputError, match="5 pulses given, 8 announced"):
        write_prepared(path, header(8), FullStates(codes=[np.zeros(5, dtype=np.uint8)]))
    assert not path.exists()
    write_prepared(path, header(8), SeedStates(seed=SEED))
    before = path.read_bytes()
    with pytest.raises(InputError, match="never overwritten"):
        write_prepared(path, header(8), SeedStates(seed=SEED))
    assert path.read_bytes() == before


def test_the_same_record_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_prepared(tmp_path / name, header(500), states("detected", header(500), np.random.default_rng(5))[0])
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_states_do_not_show(tmp_path: Path) -> None:
    write_prepared(tmp_path / "a.h5", header(8), SeedStates(seed=SEED))
    assert repr(read_prepared(tmp_path / "a.h5")) == "PreparedRecord(mode='seed', n_pulses=8)"


def corrupt(path: Path, field: str, value: object) -> None:
    """Replaces one attribute or dataset (None: removes it)."""
    with h5py.File(path, "r+") as file:
        holder = file.attrs if field in file.attrs else file
        del holder[field]
        if value is not None:
            holder[field] = value


FAULTS: list[tuple[str, str, object]] = [
    ("detected", "format", "something-else"),
    ("detected", "format", None),
    ("detected", "version", 2),
    ("detected", "version", "1"),
    ("detected", "mode", "other"),
    ("detected", "n_pulses", -1),
    ("detected", "n_pulses", 2**51),
    ("detected", "n_pulses", 40),
    ("detected", "n_pulses", np.float64(1000)),
    ("detected", "pulse_period_as", 0),
    ("detected", "intensities", np.array([0.6, np.nan, 0.0])),
    ("detected", "intensities", np.array([1, 2, 3])),
    ("detected", "intensities", np.zeros(33)),
    ("detected", "intensities", np.array([0.6])),
    ("detected", "p_intensity", np.array([0.5, 0.4, 0.2])),
    ("detected", "p_intensity", np.array([0.5, 0.5])),
    ("detected", "p_z", np.float64(1.1)),
    ("detected", "p_z", np.array([0.5, 0.5])),
    ("detected", "sync_seed", np.zeros(31, dtype=np.uint8)),
    ("detected", "sync_seed", np.zeros(32, dtype=np.uint8)),
    ("detected", "sync_length", 21),
    ("detected", "sync_frame", 0),
    ("detected", "sync_frame", None),
    ("detected", "gaps", None),
    ("detected", "gaps", np.array([5, 0, 3], dtype=np.int64)),
    ("detected", "gaps", np.array([-1, 2, 3], dtype=np.int64)),
    ("detected", "gaps", np.array([900, 99, 99], dtype=np.int64)),
    ("detected", "gaps", np.full(300, 2**62, dtype=np.int64)),
    ("detected", "gaps", np.ones((3, 3), dtype=np.int64)),
    ("detected", "gaps", np.ones(3, dtype=np.int32)),
    ("detected", "gaps", np.ones(3, dtype=">i8")),
    ("detected", "codes", np.zeros(3, dtype=np.uint8)),
    ("detected", "codes", np.full(500, 0xFF, dtype=np.uint8)),
    ("detected", "totals", None),
    ("detected", "totals", np.zeros((3, 2, 2), dtype=np.int64)),
    ("detected", "totals", np.full((3, 2, 2), 1000, dtype=np.int64)),
    ("detected", "totals", np.zeros((3, 4), dtype=np.int64)),
    ("full", "codes", np.zeros(499, dtype=np.uint8)),
    ("full", "codes", np.full(500, 0xCC, dtype=np.uint8)),
    ("full", "codes", np.zeros(500, dtype=np.uint8)),
    ("pattern", "pattern", np.zeros(0, dtype=np.uint8)),
    ("pattern", "pattern", np.array([12], dtype=np.uint8)),
    ("pattern", "pattern", h5py.SoftLink("/elsewhere")),
    ("pattern", "pattern", h5py.ExternalLink("other.h5", "pattern")),
    ("seed", "seed", np.zeros(16, dtype=np.uint8)),
    ("seed", "seed", None),
]


@pytest.mark.parametrize(("mode", "field", "value"), FAULTS, ids=[f"{m}-{f}-{i}" for i, (m, f, _) in enumerate(FAULTS)])
def test_faulty_fields_are_named(tmp_path: Path, mode: str, field: str, value: object) -> None:
    path = tmp_path / "alice.h5"
    head = header(1000, string=STRING)
    write_prepared(path, head, states(mode, head, np.random.default_rng(6))[0])
    corrupt(path, field, value)
    with pytest.raises(FormatError) as caught:
        read_prepared(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    # a wrong header value may show first in the field that contradicts it
    assert field in message or field in ("n_pulses", "intensities", "sync_seed", "gaps")


def test_huge_stored_chunks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "alice.h5"
    write_prepared(path, header(8), SeedStates(seed=SEED))
    with h5py.File(path, "r+") as file:
        file.attrs["mode"] = "pattern"
        file.create_dataset("pattern", shape=(4,), maxshape=(None,), dtype=np.uint8, chunks=(1 << 25,))
    with pytest.raises(FormatError, match="pattern: stored in chunks"):
        read_prepared(path)


def test_a_claimed_size_without_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alice.h5"
    write_prepared(path, header(8), FullStates(codes=[np.zeros(8, dtype=np.uint8)]))
    with h5py.File(path, "r+") as file:
        file["codes"].resize((2**48,))
        file.attrs["n_pulses"] = np.int64(2**49)
    with pytest.raises(FormatError, match="codes: claims 281474976710656 bytes"):
        read_prepared(path)


def test_files_that_are_not_hdf5(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("pulse,state\n0,1\n", encoding="utf-8")
    with pytest.raises(FormatError, match="not a readable HDF5 record"):
        read_prepared(tmp_path / "text")
    with pytest.raises(FormatError, match="no such file"):
        read_prepared(tmp_path / "absent")


@pytest.fixture(scope="module")
def valid_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("valid") / "alice.h5"
    head = header(1000, string=STRING)
    write_prepared(path, head, states("detected", head, np.random.default_rng(7))[0])
    return path.read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_files_end_in_typed_errors_only(tmp_path: Path, valid_bytes: bytes, data: st.DataObject) -> None:
    damaged = bytearray(valid_bytes)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(damaged) // 2, len(damaged)))
    path = tmp_path / "damaged.h5"
    path.write_bytes(bytes(damaged[:cut]))
    try:
        record: PreparedRecord = read_prepared(path)
        record.lookup(np.arange(-3, 1003))
        record.totals()
    except QkdppError:
        pass
