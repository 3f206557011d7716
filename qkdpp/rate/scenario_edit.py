"""Writes chosen parameters into the text of a scenario: every other line and comment stays.

The result is read back and compared, so a layout this does not understand is an error and never a wrong file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qkdpp.core.errors import ConfigError
from qkdpp.rate.parameters import values_of, with_values
from qkdpp.scenarios.scenario import Scenario
from qkdpp.scenarios.scenario_file import parse

MARK = "# optimised, qkdpp optimise"
Settings = dict[str, dict[str, str]]
"""TOML values by section and key."""


def settings(plan: Scenario, values: Mapping[str, float]) -> Settings:
    """What has to stand in the file for these parameters, by section and key."""
    chosen = with_values(plan, values)
    if chosen.source is None:
        assert chosen.pairs is not None
        assert chosen.alice is not None
        return {
            "pairs": {"pair_rate_hz": repr(chosen.pairs.pair_rate_hz)},
            "alice.receiver": {"p_z": repr(chosen.alice.receiver.p_z)},
            "bob.receiver": {"p_z": repr(chosen.bob.receiver.p_z)},
            "timing": {"gate_ps": repr(chosen.timing.gate_ps)},
        }
    source = chosen.source
    return {
        "source": {
            "intensities": repr(list(source.intensities)),
            "p_intensity": repr(list(source.p_intensity)),
            "p_z": repr(source.p_z),
        },
        "bob.receiver": {"p_z": repr(chosen.bob.receiver.p_z)},
    }


def lines(wanted: Settings) -> list[str]:
    """The same as lines of a scenario."""
    return [
        line for section, keys in wanted.items() for line in (f"[{section}]", *(f"{k} = {v}" for k, v in keys.items()))
    ]


def edited(text: str, name: str, values: Mapping[str, float], why: str) -> str:
    """The text of a scenario with these parameters in it; what does not change stays as it was.

    Args:
        text: TOML of the scenario.
        name: for messages.
        values: all parameters by name.
        why: put behind :data:`MARK`.

    Raises:
        ConfigError: a layout in which the keys cannot be replaced line by line.
    """
    plan = parse(text, name)
    before, after = settings(plan, values_of(plan)), settings(plan, values)
    result = text if text.endswith("\n") else text + "\n"
    for section, keys in after.items():
        for key, value in keys.items():
            if value != before[section][key]:
                result = _replaced(result, section, key, f"{key} = {value}  {MARK}: {why}")
    try:
        same = parse(result, name) == with_values(plan, values)
    except ConfigError:
        same = False
    if not same:
        raise ConfigError(
            f"{name}: its layout does not let keys be replaced line by line; set the printed lines by hand"
        )
    return result


def _replaced(text: str, section: str, key: str, line: str) -> str:
    """``line`` in place of the assignment of ``key`` in ``section``, or at its beginning where there is none.

    Without a header of its own the section is left as it is; the caller compares.
    """
    header = re.search(rf"^[ \t]*\[{re.escape(section)}\][^\n]*\n", text, flags=re.MULTILINE)
    if header is None:  # an inline table or dotted keys
        return text
    following = re.compile(r"^[ \t]*\[", flags=re.MULTILINE).search(text, header.end())
    end = len(text) if following is None else following.start()
    body = text[header.end() : end]
    found = re.search(rf"^[ \t]*{key}[ \t]*=[ \t]*(\[[^\]]*\]|[^\n#]*)[^\n]*\n?", body, flags=re.MULTILINE)
    before, after = ("", body) if found is None else (body[: found.start()], body[found.end() :])
    return f"{text[: header.end()]}{before}{line}\n{after}{text[end:]}"
