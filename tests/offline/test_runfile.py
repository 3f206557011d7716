"""run.toml: a typo is an error that names file, field and remedy."""

import pytest

from qkdpp.core.errors import ConfigError
from qkdpp.offline import runfile

GOOD = """
format = 1
protocol = "bb84"
[source]
pulse_period_as = 1600000000
intensities = [0.6, 0.2, 0.0]
p_intensity = [0.75, 0.125, 0.125]
[alice]
record = "alice.h5"
[bob]
files = ["part*.ptu", "tail.ptu"]
[bob.channels]
1 = "Z0"
2 = "Z1"
-3 = "X0"
300 = "X1"
5 = "sync"
[timing]
method = "sync"
sync_period_pulses = 6250
"""


def write(folder, text):
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_good_file_loads_from_its_folder_or_by_name(tmp_path):
    write(tmp_path, GOOD)
    run = runfile.load(tmp_path)
    assert run.bob.detectors("bob") == {1: 0, 2: 1, -3: 2, 300: 3}
    assert runfile.load(tmp_path / "run.toml").parameters.digest() == run.parameters.digest()


def test_globs_expand_in_order_and_must_match(tmp_path):
    run = runfile.load(write(tmp_path, GOOD))
    for name in ("part2.ptu", "part10.ptu", "part1.ptu"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"tail\.ptu"):
        run.recordings("bob")
    (tmp_path / "tail.ptu").touch()
    assert [p.name for p in run.recordings("bob")] == ["part1.ptu", "part10.ptu", "part2.ptu", "tail.ptu"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("format = 1", "format = 2", "format = 2"),
        ('protocol = "bb84"', 'protocol = "bb85"', "bb85"),
        ("sync_period_pulses", "sync_period_pulse", "sync_period_pulse"),
        ("0.75, 0.125, 0.125", "0.75, 0.125, 0.2", "p_intensity"),
        ("0.6, 0.2, 0.0", "0.2, 0.6, 0.0", "intensities"),
        ('1 = "Z0"', 'one = "Z0"', "one"),
        ('1 = "Z0"', '1 = "Z9"', "Z9"),
        ('1 = "Z0"', '1 = "ignore"', "Z0"),
        ('5 = "sync"', '5 = "marker"', "sync"),
        ('record = "alice.h5"', "", "record"),
        ("[timing]", "[timing]\ngate_ps = -1", "gate_ps"),
        ("pulse_period_as = 1600000000", "pulse_period_as = 0", "pulse_period_as"),
        ("[alice]", "[alice", "TOML"),
        ('method = "sync"', 'method = "pairs"', "method"),
        ('method = "sync"\nsync_period_pulses = 6250', 'method = "string"', "sync_string"),
    ],
)
def test_every_mistake_names_the_file_and_the_field(tmp_path, old, new, says):
    assert old in GOOD
    with pytest.raises(ConfigError, match=says) as caught:
        runfile.load(write(tmp_path, GOOD.replace(old, new)))
    assert "run.toml" in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="qkdpp init"):
        runfile.load(tmp_path)


def test_any_change_of_a_public_parameter_changes_the_digest(tmp_path):
    first = runfile.load(write(tmp_path, GOOD)).parameters.digest()
    for change in ("\ngate_ps = 401", '\n[security]\nrule = "both"', "\n[security]\neps_sec = 1e-9"):
        assert runfile.load(write(tmp_path, GOOD + change)).parameters.digest() != first


def test_a_folder_with_glob_characters_in_its_name_works(tmp_path):
    folder = tmp_path / "run[1]*"
    folder.mkdir()
    (folder / "tail.ptu").touch()
    run = runfile.load(write(folder, GOOD.replace('"part*.ptu", ', "")))
    assert run.recordings("bob") == [folder / "tail.ptu"]


SECURITY = """
[detectors]
bob = [0.6, 0.58, 0.61, 0.6]
tolerance = 0.01
[security]
drift = "refuse"
hops = 4
[security.split]
smoothing = 0.45
[security.split.weights]
"phase errors" = 3.0
"""


def test_split_detectors_and_drift_are_public_parameters(tmp_path):
    plain = runfile.load(write(tmp_path, GOOD)).parameters
    changed = runfile.load(write(tmp_path, GOOD + SECURITY)).parameters
    assert changed.digest() != plain.digest()
    assert changed.security.estimation().split.weights == {"phase errors": 3.0}
    assert changed.receivers()[0].values == (0.6, 0.58, 0.61, 0.6)
    assert plain.receivers() == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"phase errors" = 3.0', '"phase error" = 3.0', "phase error"),
        ('"phase errors" = 3.0', '"phase errors" = 0.0', "above 0"),
        ("smoothing = 0.45", "smoothing = 0.5", "smoothing"),
        ("smoothing = 0.45", "smoothin = 0.4", "did you mean smoothing"),
        ("0.6, 0.58, 0.61, 0.6", "0.6, 0.58, 0.61", "four efficiencies"),
        ("0.6, 0.58, 0.61, 0.6", "0.6, 0.58, 0.61, 1.6", "at most 1"),
        ("tolerance = 0.01", "tolerance = 0.6", "tolerance"),
        ("bob = [", "alice = [", "only Bob"),
        ('"refuse"', '"ignore"', "merge, refuse"),
        ("hops = 4", "hops = 0", "hops"),
        ("[security]", '[security]\nprofile = "T"', "profile V"),
    ],
)
def test_mistakes_in_the_new_sections(tmp_path, old, new, says):
    with pytest.raises(ConfigError, match=says):
        runfile.load(write(tmp_path, GOOD + SECURITY.replace(old, new)))


def test_profile_t_is_for_bb84(tmp_path):
    run = runfile.load(write(tmp_path, GOOD + '[security]\nprofile = "T"\n'))
    assert run.parameters.security.profile == "T"


def test_detectors_beyond_correction_are_left_uncorrected(tmp_path):
    text = GOOD + SECURITY.replace("0.6, 0.58, 0.61, 0.6", "0.6, 0.2, 0.6, 0.6")
    assert runfile.load(write(tmp_path, text)).parameters.receivers() == ()
