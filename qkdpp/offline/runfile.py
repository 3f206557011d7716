"""``run.toml``: which protocol, which recordings belong to whom, and the public parameters.

Format page: ``docs/formats/run.md``.
"""

from __future__ import annotations

import difflib
import glob
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from qkdpp.core.errors import ConfigError
from qkdpp.core.toml_kind import RUN, meant
from qkdpp.protocols.parameters import (
    Correction,
    Detectors,
    Parameters,
    SecuritySection,
    Source,
    SplitSection,
    SyncStringSection,
    Timing,
)

FORMAT = 1
DETECTORS = {"Z0": 0, "Z1": 1, "X0": 2, "X1": 3}
ROLES = (*DETECTORS, "sync", "marker", "ignore")
Role = Literal["Z0", "Z1", "X0", "X1", "sync", "marker", "ignore"]


class PartySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One party's own files and channel map; no other party is given them."""

    files: list[str] = []
    record: str | None = None
    format: str | None = None
    tick_as: int | None = None
    options: dict[str, str | int | bool] = {}
    channels: dict[str, Role] = {}
    delays_ps: dict[str, float] = {}
    pool: str | None = None

    def channel_roles(self, party: str) -> dict[int, str]:
        """Instrument channel -> role."""
        roles: dict[int, str] = {}
        for key, role in self.channels.items():
            channel = _channel(key, f"{party}.channels")
            if channel in roles:
                raise ConfigError(f"{party}.channels: channel {channel} is named twice")
            roles[channel] = role
        if list(roles.values()).count("sync") > 1:
            raise ConfigError(f'{party}.channels: more than one channel has the role "sync"')
        return roles

    def detectors(self, party: str) -> dict[int, int]:
        """Instrument channel -> detector (2 basis + bit) of the channels that count photons."""
        return {c: DETECTORS[r] for c, r in self.channel_roles(party).items() if r in DETECTORS}

    def delays(self, party: str) -> dict[int, float] | None:
        """Instrument channel -> delay in ps; None when the program shall find them."""
        if not self.delays_ps:
            return None
        return {_channel(key, f"{party}.delays_ps"): value for key, value in self.delays_ps.items()}


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    protocol: Literal["bb84", "bbm92"]
    alice: PartySection
    bob: PartySection
    source: Source | None = None
    sync_string: SyncStringSection | None = None
    timing: Timing | None = None
    detectors: Detectors = Detectors()
    security: SecuritySection = SecuritySection()
    correction: Correction = Correction()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A checked run file; ``folder`` is where its relative paths start."""

    path: Path
    folder: Path
    parameters: Parameters
    alice: PartySection
    bob: PartySection

    def recordings(self, party: Literal["alice", "bob"]) -> list[Path]:
        """The files of one party, globs expanded in sorted order; ConfigError where nothing matches."""
        section = self.alice if party == "alice" else self.bob
        found: list[Path] = []
        for pattern in section.files:
            matches = sorted(glob.glob(pattern, root_dir=self.folder))
            if not matches:
                raise ConfigError(f"{self.path}: {party}.files: nothing matches {pattern!r} in {self.folder}")
            found += [self.folder / match for match in matches if self.folder / match not in found]
        return found


def _channel(key: str, where: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise ConfigError(f"{where}: {key!r} is not a channel number") from None


def load(run: Path) -> RunFile:
    """Reads ``RUN`` (a folder with ``run.toml``, or the file); ConfigError names file, field and remedy."""
    path = run / "run.toml" if run.is_dir() else run
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `qkdpp init FILES` writes one for your recordings") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a run file; for a recording, `qkdpp init FILE` writes one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        table = tomllib.loads(text)
        document = msgspec.convert(table, _Document)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error} (`qkdpp init FILE` writes a run file)") from error
    except msgspec.ValidationError as error:
        other = meant(table, RUN)
        told = f"{str(error).replace('`', '')}{other}" if other else _explained(str(error))
        raise ConfigError(f"{path}: {told}") from error
    if document.format != FORMAT:
        raise ConfigError(f"{path}: format = {document.format}, this version reads format = {FORMAT}")
    parameters = Parameters(
        protocol=document.protocol,
        source=document.source,
        sync_string=document.sync_string,
        timing=document.timing or Timing(method="pairs" if document.protocol == "bbm92" else "string"),
        detectors=document.detectors,
        security=document.security,
        correction=document.correction,
    )
    result = RunFile(path=path, folder=path.parent, parameters=parameters, alice=document.alice, bob=document.bob)
    try:
        _check(result)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return result


_CHOICES = {
    "protocol": "bb84, bbm92",
    "method": "sync, string, pairs ([timing]) or cascade, hamming ([correction])",
    "receiver": "active, passive",
    "double_click": "random, first",
    "profile": "V, L, T",
    "drift": "merge, refuse",
    "rule": "public_errors, both",
    "key_from": "all, signal",
}


def _explained(message: str) -> str:
    """A validation error with plain paths, the values allowed or the closest name, and a word on drafts."""
    text = message.replace("`", "").replace("$.", "").replace("[...]", "")
    if unknown := re.search(r"unknown field (\w+)", text):
        names = {f for s in (_Document, PartySection, Source, SyncStringSection, Timing) for f in s.__struct_fields__}
        for section in (SecuritySection, Correction, Detectors, SplitSection):
            names |= {*section.__struct_fields__}
        if close := difflib.get_close_matches(unknown[1], names, n=1):
            text += f"; did you mean {close[0]}?"
    if place := re.search(r"Invalid enum value .* at (\S+)$", text):
        field = place[1].rsplit(".", 1)[-1]
        text += f"; allowed: {_CHOICES.get(field, ', '.join(ROLES))}"
    if "missing required field" in text:
        text += "; is a line of a draft still marked FILL IN?"
    return text


def _check(run: RunFile) -> None:
    run.parameters.check()
    tagged: list[Literal["alice", "bob"]] = ["bob"] if run.parameters.protocol == "bb84" else ["alice", "bob"]
    if run.parameters.protocol == "bb84" and not run.alice.record:
        raise ConfigError("alice.record must name Alice's record of prepared states (docs/formats/prepared.md)")
    for party in tagged:
        section = run.alice if party == "alice" else run.bob
        if not section.files:
            raise ConfigError(f"{party}.files must name at least one recording")
        roles = section.channel_roles(party)
        held = sorted({r for r in roles.values() if r in DETECTORS})
        if set(held) != set(DETECTORS):
            missing = ", ".join(sorted(set(DETECTORS) - set(held)))
            raise ConfigError(f"{party}.channels: no channel for {missing}; roles are {', '.join(ROLES)}")
        if run.parameters.timing.method == "sync" and "sync" not in roles.values():
            raise ConfigError(f'{party}.channels: timing.method = "sync" needs a channel with the role "sync"')
