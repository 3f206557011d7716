"""Writes a simulated run to a folder: recordings, Alice's record, run.toml, scenario.toml and truth.json."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.scenarios import scenario, scenario_file
from qkdpp.scenarios.expected import expected_gains
from qkdpp.sim.bb84 import Bb84Run
from qkdpp.sim.pairs import PairRun
from qkdpp.sim.run_toml import Written, run_toml
from qkdpp.sources import write_recording
from qkdpp.sources.formats import FORMATS, format_named
from qkdpp.sources.prepared import DetectedWriter

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was written."""

    folder: Path
    files: tuple[str, ...]
    tags: dict[str, int]
    n_pulses: int | None
    duration_s: float
    seed: int


def resized(
    plan: scenario.Scenario, *, scale: float | None, duration_s: float | None, format_name: str | None
) -> scenario.Scenario:
    """The scenario with another duration (``scale`` times as long, or given) and recording format."""
    if scale is not None and duration_s is not None:
        raise InputError("--scale and --duration-s exclude each other")
    if scale is not None:
        duration_s = plan.duration_s * scale
    if duration_s is not None:
        plan = msgspec.structs.replace(plan, duration_s=duration_s)
    if format_name is not None:
        plan = msgspec.structs.replace(plan, bob=_with_format(plan.bob, format_name))
        if plan.alice is not None:
            plan = msgspec.structs.replace(plan, alice=_with_format(plan.alice, format_name))
    scenario_file.check(plan)
    return plan


def _with_format(party: scenario.Party, name: str) -> scenario.Party:
    return msgspec.structs.replace(party, tagger=msgspec.structs.replace(party.tagger, format=name))


def simulate(
    plan: scenario.Scenario,
    *,
    scenario_text: str,
    seed: int,
    out: Path,
    progress: Progress = lambda share: None,
) -> Summary:
    """Simulates ``plan`` into the new folder ``out``; InputError if it exists. The same seed gives the same files."""
    for party in (plan.alice, plan.bob):
        if party is not None and format_named(party.tagger.format).writer is None:
            writable = ", ".join(name for name, row in FORMATS.items() if row.writer)
            raise InputError(f"format {party.tagger.format} cannot be written; written are {writable}")
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{out}: exists already and is never overwritten; choose another folder") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be created ({error.strerror})") from error
    try:
        if plan.protocol == "bb84":
            tags, n_pulses = _bb84(plan, seed, out, progress), _pulses(plan)
        else:
            tags, n_pulses = _bbm92(plan, seed, out, progress), None
        made = f"# simulated with seed {seed}, duration_s = {plan.duration_s!r}, format {plan.bob.tagger.format}\n"
        (out / "scenario.toml").write_text(made + scenario_text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(out)
        raise
    files = tuple(sorted(p.name for p in out.iterdir()))
    return Summary(folder=out, files=files, tags=tags, n_pulses=n_pulses, duration_s=plan.duration_s, seed=seed)


def _pulses(plan: scenario.Scenario) -> int:
    assert plan.source is not None
    return round(plan.duration_s * 1e18 / plan.source.pulse_period_as)


def _file_name(name: str, party: scenario.Party) -> str:
    return name + FORMATS[party.tagger.format].extensions[0]


def _record(path: Path, chunks: Iterable[TimeTags], party: scenario.Party, seed: int) -> int:
    """Writes a recording; PTU files get an identifier that follows from the seed."""
    identifier = uuid.UUID(bytes=np.random.default_rng([seed, 0x51DC]).bytes(16), version=4)
    metadata = {"File_GUID": "{" + str(identifier).upper() + "}"}
    return write_recording(path, chunks, format=party.tagger.format, metadata=dict(metadata))


def _about(plan: scenario.Scenario, seed: int) -> dict[str, object]:
    return {"title": plan.title, "protocol": plan.protocol, "seed": seed, "duration_s": plan.duration_s}


def _write_texts(plan: scenario.Scenario, out: Path, written: Written, truth: dict[str, object]) -> None:
    (out / "run.toml").write_text(run_toml(plan, written), encoding="utf-8")
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def _bb84(plan: scenario.Scenario, seed: int, out: Path, progress: Progress) -> dict[str, int]:
    run = Bb84Run(plan, seed)
    recording = _file_name("bob", plan.bob)
    with DetectedWriter.create(out / "alice.h5", run.header) as writer:
        n = _record(out / recording, run.tags(writer.append, progress), plan.bob, seed)
        writer.finish(run.totals())
    written = Written(
        recordings={"bob": recording}, sync_string=run.header.sync_string, offset_s=run.clock_at_start_s()
    )
    truth = {**_about(plan, seed), **run.truth()}
    if plan.channel.satellite is None:
        truth["expected"] = {
            basis: {"gain": g.gain.tolist(), "error_rate": g.error_rate.tolist()}
            for basis, g in zip("ZX", expected_gains(plan), strict=True)
        }
    _write_texts(plan, out, written, truth)
    return {"bob": n}


def _bbm92(plan: scenario.Scenario, seed: int, out: Path, progress: Progress) -> dict[str, int]:
    run = PairRun(plan, seed)
    assert plan.alice is not None
    names = {"alice": _file_name("alice", plan.alice), "bob": _file_name("bob", plan.bob)}
    with _Spool() as spool:
        n_alice = _record(out / names["alice"], spool.divert(run.tags(progress)), plan.alice, seed)
        n_bob = _record(out / names["bob"], spool.replay(), plan.bob, seed + 1)
    written = Written(recordings=names, sync_string=None, offset_s=run.clock_difference_s())
    _write_texts(plan, out, written, {**_about(plan, seed), **run.truth()})
    return {"alice": n_alice, "bob": n_bob}


class _Spool:
    """Keeps Bob's tags in a temporary file while Alice's are written, so that memory stays bounded."""

    def __enter__(self) -> _Spool:
        self.file = tempfile.TemporaryFile()
        self.heads: list[TimeTags] = []
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def divert(self, pairs: Iterable[tuple[TimeTags, TimeTags]]) -> Iterator[TimeTags]:
        """Alice's chunks; Bob's are put aside."""
        for alice, bob in pairs:
            np.save(self.file, bob.ticks)
            np.save(self.file, bob.channel)
            self.heads.append(replace(bob, ticks=bob.ticks[:0], channel=bob.channel[:0]))
            yield alice

    def replay(self) -> Iterator[TimeTags]:
        """Bob's chunks."""
        self.file.seek(0)
        for head in self.heads:
            yield replace(head, ticks=np.load(self.file), channel=np.load(self.file))
