"""What the parties are given: delays taken out, spans checked, records that contradict the run file refused."""

import numpy as np
import pytest

from qkdpp.core.errors import ConfigError
from qkdpp.core.tags import TimeTags
from qkdpp.offline.inputs import load_inputs, without_delays
from qkdpp.offline.runfile import load


def quiet(what: str, n: int) -> None:
    """No progress."""


def test_known_delays_are_subtracted_and_the_order_restored():
    data = TimeTags(
        ticks=np.array([100, 110, 120], dtype=np.int64),
        channel=np.array([0, 1, 0], dtype=np.uint8),
        channel_ids=(5, -6),
        tick_as=2_000_000,
    )
    found = without_delays(data, {-6: 30.0})
    assert found.ticks.tolist() == [95, 100, 120]
    assert found.channel.tolist() == [1, 0, 0]
    assert without_delays(data, None) is data


@pytest.fixture
def folder(tmp_path):
    from pathlib import Path

    example = Path(__file__).parents[2] / "examples" / "fibre"
    for name in ("alice.h5", "bob.ptu"):
        (tmp_path / name).symlink_to(example / name)
    (tmp_path / "run.toml").write_text((example / "run.toml").read_text())
    return tmp_path


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_spans_must_be_seconds(folder, value):
    with pytest.raises(ConfigError, match="--from"):
        load_inputs(load(folder), from_s=value, to_s=None, progress=quiet)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("pulse_period_as = 10000000000", "pulse_period_as = 10000000001", "pulse_period_as"),
        ("intensities = [0.5", "intensities = [0.51", "intensities"),
        ("p_z_alice = 0.85", "p_z_alice = 0.8", "p_z_alice"),
        ("length = 20000", "length = 10000", "sync_string"),
    ],
)
def test_a_record_that_contradicts_the_run_file_is_refused(folder, old, new, field):
    text = (folder / "run.toml").read_text()
    assert old in text
    (folder / "run.toml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=field):
        load_inputs(load(folder), from_s=None, to_s=None, progress=quiet)
