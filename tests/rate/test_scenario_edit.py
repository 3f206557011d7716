"""Chosen parameters written into scenarios: only what was chosen changes, whatever the layout."""

import pytest

from qkdpp.core.errors import ConfigError
from qkdpp.rate.parameters import probabilities, values_of, with_values
from qkdpp.rate.scenario_edit import MARK, edited, lines, settings
from qkdpp.scenarios import scenario_file


def other_values(name: str) -> dict[str, float]:
    values = values_of(scenario_file.load(name))
    shares = probabilities(values)
    changed = {key: round(0.9 * value, 6) for key, value in values.items() if key not in shares}
    return values | changed | dict(zip(shares, (0.625, 0.25, 0.125), strict=False))


@pytest.mark.parametrize("name", list(scenario_file.shipped()))
def test_everything_else_stays(name: str) -> None:
    where, text = scenario_file.source_text(name)
    values = other_values(name)
    result = edited(text, where, values, "a test")
    assert scenario_file.parse(result, where) == with_values(scenario_file.load(name), values)
    new, old = result.splitlines(), text.splitlines()
    changed = [line for line in new if MARK in line]
    assert [line for line in new if MARK not in line] == [line for line in old if line in set(new)]
    assert len(new) == len(old)
    assert len(changed) == 4
    assert all(line.endswith(f"{MARK}: a test") for line in changed)


def test_what_is_not_chosen_anew_keeps_its_line() -> None:
    where, text = scenario_file.source_text("example")
    values = values_of(scenario_file.load("example"))
    assert edited(text, where, values, "") == text
    result = edited(text, where, values | {"p_z_bob": 0.5}, "")
    assert sum(a != b for a, b in zip(result.splitlines(), text.splitlines(), strict=True)) == 1


def test_missing_keys_are_added_and_long_lists_replaced() -> None:
    where, text = scenario_file.source_text("example")
    text = text.replace(
        "p_z = 0.85                              # assumed: near the optimum for so few detections\n", ""
    )
    text = text.replace("intensities = [0.5, 0.15, 0.0] ", "intensities = [\n  0.5,  # signal\n  0.15,\n  0.0,\n]")
    before = scenario_file.parse(text, where)
    assert before.source is not None
    assert before.source.p_z == 0.5
    values = values_of(before) | {"mu_signal": 0.7, "p_z_alice": 0.75}
    result = edited(text, where, values, "")
    assert scenario_file.parse(result, where) == with_values(before, values)
    assert "# signal" not in result


def test_a_header_may_carry_a_comment() -> None:
    where, text = scenario_file.source_text("example")
    text = text.replace("[bob.receiver]", "  [bob.receiver]  # in the cellar")
    values = values_of(scenario_file.load("example")) | {"p_z_bob": 0.6}
    assert "[bob.receiver]  # in the cellar" in edited(text, where, values, "")


def test_a_layout_that_is_not_understood_is_refused() -> None:
    where, text = scenario_file.source_text("example")
    start, end = text.index("[source]"), text.index("[sync_string]")
    inline = (
        "source = { pulse_period_as = 10_000_000_000, intensities = [0.5, 0.15, 0.0], "
        "p_intensity = [0.45, 0.4, 0.15], p_z = 0.85 }\n"
    )
    odd = inline + text[:start] + text[end:]
    values = values_of(scenario_file.parse(odd, where))
    with pytest.raises(ConfigError, match="set the printed lines by hand"):
        edited(odd, where, values | {"mu_signal": 0.7}, "")


def test_lines_are_a_part_of_a_scenario() -> None:
    plan = scenario_file.load("pair-lab")
    printed = lines(settings(plan, values_of(plan) | {"gate_ps": 900.0}))
    assert printed[:2] == ["[pairs]", "pair_rate_hz = 2000000.0"]
    assert printed[-2:] == ["[timing]", "gate_ps = 900.0"]
