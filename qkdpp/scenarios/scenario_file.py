"""Reads scenarios and refuses what makes no physical sense.

Shipped scenarios are the files of ``qkdpp/scenarios``. Unknown keys are errors that name the path.
"""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from pathlib import Path

import msgspec

from qkdpp.core.errors import ConfigError
from qkdpp.scenarios.scenario import Channel, Party, Rate, Receiver, Scenario, Tagger

MAX_DURATION_S = 2000.0
"""Longest run: true time in femtoseconds, and four times it, must fit int64."""


def shipped() -> dict[str, str]:
    """Names and titles of the shipped scenarios."""
    folder = resources.files("qkdpp") / "scenarios"
    names = sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
    return {name: load(name).title for name in names}


def source_text(scenario: str) -> tuple[str, str]:
    """Name for messages and TOML text of a shipped name or a file."""
    shipped_file = resources.files("qkdpp") / "scenarios" / f"{scenario}.toml"
    try:
        if "/" not in scenario and shipped_file.is_file():
            return f"scenario {scenario}", shipped_file.read_text(encoding="utf-8")
        return scenario, Path(scenario).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{scenario}: neither a shipped scenario nor a file; `qkdpp simulate --list` shows the shipped ones"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{scenario}: cannot be read: {error}") from error


def load(scenario: str) -> Scenario:
    """Reads and checks a shipped scenario by name, or a TOML file."""
    name, text = source_text(scenario)
    return parse(text, name)


def parse(text: str, name: str) -> Scenario:
    """A checked scenario from TOML; ConfigError names ``name`` and the key."""
    try:
        result = msgspec.convert(tomllib.loads(text), Scenario, strict=False)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error
    try:
        check(result)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    return result


def check(scenario: Scenario) -> None:
    """Raises ConfigError unless the values make physical sense together."""
    _between("duration_s", scenario.duration_s, 1e-9, MAX_DURATION_S)
    if scenario.protocol == "bb84":
        _check_bb84(scenario)
    else:
        _check_bbm92(scenario)
    _check_channel(scenario.channel)
    _check_rate(scenario.rate)
    for name, party in (("alice", scenario.alice), ("bob", scenario.bob)):
        if party is not None:
            _check_party(name, party)


def _check_channel(channel: Channel) -> None:
    for name in ("loss_db", "length_km", "attenuation_db_per_km"):
        _between(f"channel.{name}", getattr(channel, name), 0.0, 1e4)
    _between("channel.misalignment", channel.misalignment, 0.0, 0.5)
    _between("channel.rotation_rad", channel.rotation_rad, -10.0, 10.0)
    _between("channel.rotation_rad_per_s", channel.rotation_rad_per_s, -10.0, 10.0)
    if channel.satellite is not None:
        _between("channel.satellite.altitude_km", channel.satellite.altitude_km, 100.0, 1e5)
        highest = channel.satellite.altitude_km
        _between("channel.satellite.closest_km", channel.satellite.closest_km, highest, 5.0 * highest)
        _between("channel.satellite.zenith_transmission", channel.satellite.zenith_transmission, 0.01, 1.0)


def _check_rate(rate: Rate) -> None:
    _between("rate.f_ec", rate.f_ec, 1.0, 5.0)
    _between("rate.block_s", rate.block_s, 0.0, 1e9)
    _between("rate.hops", rate.hops, 1, 1e4)
    _between("rate.loss_db", rate.loss_db[0], 0.0, 1e3)
    if not rate.loss_db[0] < rate.loss_db[1] <= 1e3:
        raise ConfigError("rate.loss_db must be a range: two rising values")
    for point in rate.published:
        _between("rate.published.loss_db", point.loss_db, 0.0, 1e3)
        _between("rate.published.secret_bps", point.secret_bps, 0.0, 1e12)


def _check_party(name: str, party: Party) -> None:
    _between(f"{name}.loss_db", party.loss_db, 0.0, 1e3)
    _between(f"{name}.length_km", party.length_km, 0.0, 1e4)
    _check_receiver(f"{name}.receiver", party.receiver)
    _check_tagger(f"{name}.tagger", party.tagger)
    _between(f"{name}.clock.lead_ms", party.clock.lead_ms, 0.0, 1e3)
    _between(f"{name}.clock.offset_s", party.clock.offset_s, 1.5e-3 * party.clock.lead_ms, 100.0)
    _between(f"{name}.clock.rate_ppm", party.clock.rate_ppm, -1e3, 1e3)
    _between(f"{name}.clock.drift_ppm_per_s", party.clock.drift_ppm_per_s, -10.0, 10.0)
    _between(f"{name}.clock.walk_ps_per_sqrt_s", party.clock.walk_ps_per_sqrt_s, 0.0, 1e6)


def _check_bb84(scenario: Scenario) -> None:
    source = scenario.source
    if source is None or scenario.pairs is not None or scenario.alice is not None:
        raise ConfigError("protocol bb84 has a [source], no [pairs] and no [alice]")
    if source.pulse_period_as < 1000:
        raise ConfigError("source.pulse_period_as must be at least 1000")
    if scenario.timing.gate_ps * 1e6 > source.pulse_period_as:
        raise ConfigError("timing.gate_ps is wider than the distance of the pulses (source.pulse_period_as)")
    k = len(source.intensities)
    if k != len(source.p_intensity) or not 2 <= k <= 8:
        raise ConfigError("source.intensities and source.p_intensity need the same 2 to 8 entries")
    for value in source.intensities:
        _between("source.intensities", value, 0.0, 100.0)
    if any(b >= a for a, b in zip(source.intensities, source.intensities[1:], strict=False)):
        raise ConfigError("source.intensities must fall strictly, signal first")
    if min(source.p_intensity) <= 0 or not math.isclose(math.fsum(source.p_intensity), 1.0, abs_tol=1e-9):
        raise ConfigError("source.p_intensity must be positive and add up to 1")
    _between("source.p_z", source.p_z, 0.0, 1.0)
    if scenario.sync_string is not None and not 0 < scenario.sync_string.length <= scenario.sync_string.frame:
        raise ConfigError("sync_string.length must lie between 1 and sync_string.frame")
    if scenario.sync is not None:
        _between("sync.missing", scenario.sync.missing, 0.0, 1.0)
        _between("sync.period_pulses", scenario.sync.period_pulses, 1, 1e12)
    gates = scenario.bob.receiver.gate_rate_hz * source.pulse_period_as * 1e-18
    if abs(gates - round(gates)) > 1e-9:
        raise ConfigError("bob.receiver.gate_rate_hz must be a multiple of the pulse rate")
    if gates and scenario.channel.satellite is not None:
        raise ConfigError("bob.receiver.gate_rate_hz: gated detectors need a path of constant length")
    if (scenario.timing.method == "sync") and scenario.sync is None:
        raise ConfigError('timing.method = "sync" needs a [sync] section')


def _check_bbm92(scenario: Scenario) -> None:
    if scenario.pairs is None or scenario.source is not None or scenario.alice is None:
        raise ConfigError("protocol bbm92 has [pairs] and [alice], and no [source]")
    if scenario.sync is not None or scenario.sync_string is not None or scenario.channel.satellite is not None:
        raise ConfigError("protocol bbm92 has no [sync], no [sync_string] and no [channel.satellite]")
    _between("pairs.visibility_z", scenario.pairs.visibility_z, 0.0, 1.0)
    _between("pairs.visibility_x", scenario.pairs.visibility_x, 0.0, 1.0)
    _between("pairs.pair_rate_hz", scenario.pairs.pair_rate_hz, 0.0, 1e12)
    for name, party in (("alice", scenario.alice), ("bob", scenario.bob)):
        if party.receiver.kind != "passive" or party.receiver.gate_rate_hz:
            raise ConfigError(f"{name}.receiver: pairs need a passive receiver with free-running detectors")


def _check_receiver(where: str, receiver: Receiver) -> None:
    n = receiver.n_detectors
    for name in ("efficiency", "dark_rate_hz", "delays_ps"):
        values = getattr(receiver, name)
        if len(values) != n and (name != "delays_ps" or values):
            raise ConfigError(f"{where}.{name}: needs {n} values, one a detector (kind {receiver.kind})")
    for value in receiver.efficiency:
        _between(f"{where}.efficiency", value, 0.0, 1.0)
    for value in receiver.dark_rate_hz:
        _between(f"{where}.dark_rate_hz", value, 0.0, 1e9)
    for value in receiver.delays_ps:
        _between(f"{where}.delays_ps", value, -1e6, 1e6)
    _between(f"{where}.p_z", receiver.p_z, 0.0, 1.0)
    _between(f"{where}.loss_db", receiver.loss_db, 0.0, 1e3)
    _between(f"{where}.after_pulse_decay_ns", receiver.after_pulse_decay_ns, 0.0, 1e9)
    _between(f"{where}.after_pulse", receiver.after_pulse, 0.0, 0.3)
    _between(f"{where}.jitter_ps", receiver.jitter_ps, 0.0, 1e5)
    _between(f"{where}.dead_time_ns", receiver.dead_time_ns, 0.0, 1e7)
    for echo in receiver.echoes:
        _between(f"{where}.echoes.probability", echo.probability, 0.0, 1.0)
        _between(f"{where}.echoes.delay_ns", echo.delay_ns, 0.001, 1e5)
    if receiver.gate_rate_hz and not 0.0 < receiver.gate_width_ps <= 1e12 / receiver.gate_rate_hz:
        raise ConfigError(f"{where}.gate_width_ps must lie between 0 and the distance of the gates")


def _check_tagger(where: str, tagger: Tagger) -> None:
    if tagger.tick_as < 1 or math.gcd(tagger.tick_as, 1000) < 250:
        raise ConfigError(f"{where}.tick_as must be a positive multiple of 250")
    ids = [*tagger.channels, tagger.sync_channel]
    if len(tagger.channels) != 4 or len(set(ids)) != 5:
        raise ConfigError(f"{where}.channels must be four ids, and sync_channel a fifth")
    _between(f"{where}.gaps_per_s", tagger.gaps_per_s, 0.0, 1e4)
    _between(f"{where}.gap_ms", tagger.gap_ms, 1e-6, 1e3)


def _between(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key} = {value:g} must lie between {low:g} and {high:g}")
