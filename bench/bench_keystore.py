"""Keys a second through the store, one key a commit and a hundred; every step durable (FULL), as the store works.

NORMAL, for comparison only: a power cut would take back what was answered. Beside a disk that answers at once,
``python bench/slow_disk.py 4 python -m pytest bench/bench_keystore.py`` measures as on one that takes its time.
"""

from itertools import count

import pytest

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.keystore import FileWrapping, KeyStore, create_kek

SIZE = 32
NAMES = ("kme-a", "kme-b")


@pytest.fixture
def ends(tmp_path, synchronous):
    """Two stores that have met, a million bytes in either stream."""
    stores = []
    for own in NAMES:
        create_kek(tmp_path / f"{own}.kek", OsEntropy())
        stores.append(KeyStore(tmp_path / own, own, FileWrapping(tmp_path / f"{own}.kek")))
        stores[-1]._writer._db.execute(f"PRAGMA synchronous = {synchronous}")
    a, b = stores[0].link(NAMES[1]), stores[1].link(NAMES[0])
    for block in range(20):
        key = Bits.from_bytes(OsEntropy().bytes(100_000), 800_000)
        for link in (a, b):
            link.stage(block, key)
            link.ready(block)
            link.release(block)
    b.meet(a.hello().result()).result()
    a.meet(b.hello().result()).result()
    b.meet(a.hello().result()).result()
    yield a, b, stores[1]
    for store in stores:
        store.close()


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("step", ["reserve", "accept", "commit", "deliver"])
def test_keys(benchmark, ends, batch, step, synchronous):
    a, b, store = ends
    rounds, at = 20, count()
    reservations = []
    if step != "reserve":
        for _ in range(rounds + 1):
            reservations.append(a.reserve(batch, SIZE, master="m", slaves=["s"]).result())
    if step == "deliver":
        for reservation in reservations:
            b.accept(reservation).result()
    steps = {
        "reserve": lambda: a.reserve(batch, SIZE, master="m", slaves=["s"]).result(),
        "accept": lambda: b.accept(reservations[next(at)]).result(),
        "commit": lambda: a.commit(reservations[next(at)].key_ids).result(),
        "deliver": lambda: store.deliver("s", reservations[next(at)].key_ids, master="m").result(),
    }
    benchmark.pedantic(steps[step], rounds=rounds, warmup_rounds=1)
    benchmark.extra_info |= {"unit": "key", "amount": batch, "tier": synchronous}
    if benchmark.stats is not None:
        benchmark.extra_info["millions_per_s"] = batch / benchmark.stats.stats.median / 1e6
