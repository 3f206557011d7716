"""What people and programs see of a node: lines of JSON, plain lines, the view in a terminal."""

import io
import json

import pytest
from rich.console import Console

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.node import screen
from qkdpp.node.lines import JsonLines, PlainLines
from qkdpp.node.monitors import Alarm, Level
from qkdpp.node.screen import Tolerant, view
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Progress, Status
from qkdpp.protocols.block import BlockLog

KEY = Bits.from_bytes(b"\xa5" * 32, 256)
BLOCK = (3 << 32) + 17
ROW = {"block": BLOCK, "secret_bits": 256, "abort": None, "qber": 0.0123, "sifted_bits": 66798, "seconds": 10.0}
ROW |= {"time": "2026-01-02T03:04:05.678+00:00", "f_ec": 1.21, "stage_seconds": {"corrected": 0.5}}
ALARM = Alarm(name="blinding", level=Level.SECURITY, message="80 uA in Z0", remedy="look at the detector")


def end(result=KEY):
    log = BlockLog(now=lambda: 0.0)
    return BlockEnd(block=BLOCK, result=result, log=log, pool_bits=0, traffic={}, eps_auth=0.0, transcript=[])


def no_key():
    aborted = Aborted(reason=AbortReason.QBER_TOO_HIGH)
    return end(aborted), ROW | {"secret_bits": 0, "abort": "qber_too_high", "qber": 0.2}


def test_json_has_one_object_per_block_and_alarm():
    out = io.StringIO()
    lines = JsonLines(out)
    lines.changed(Status(name="bob", role="bob"))
    lines.block(end(), ROW)
    lines.alarm(ALARM)
    block, alarm = (json.loads(line) for line in out.getvalue().splitlines())
    assert block == {"event": "block", **ROW}
    assert alarm["event"] == "alarm"
    assert (alarm["name"], alarm["level"]) == ("blinding", "security")


def test_plain_lines_speak_of_changes_only():
    out = io.StringIO()
    lines = PlainLines(out)
    status = Status(name="bob", role="bob", progress=Progress(doing="calibrating: delay (start)"))
    for _ in range(5):
        lines.changed(status)
    lines.block(end(), ROW)
    lines.block(*no_key())
    lines.alarm(ALARM)
    said = out.getvalue().splitlines()
    assert len(said) == 4
    assert "calibrating: delay" in said[0]
    assert said[1] == "block 3.17: 256 secret bits, QBER 1.23 % of 66,798 sifted bits"
    assert "qber_too_high" in said[2]
    assert said[3] == "SECURITY blinding: 80 uA in Z0; look at the detector"


def drawn(status, recent):
    console = Console(file=io.StringIO(), width=120)
    console.print(view(status, recent))
    return console.file.getvalue()


def test_the_view_shows_what_a_person_asks_for():
    status = Status(name="bob-7", role="bob", link="up", blocks={"ok": 2, "no_lock": 1}, last_row=ROW)
    status.secret_bits, status.resting_bits, status.burned_bits, status.pool_tags = 1000, 256, 100, 3950
    status.progress.rate_hz, status.progress.doing = 160000.0, "distilling"
    status.alarms = [ALARM]
    text = drawn(status, [ROW, no_key()[1]])
    for words in (
        "bob-7", "link up", "distilling", "160,000 tags/s", "2 ok", "1 no_lock", "1.23 %", "26 bit/s",
        "644 bits ready, 256 in quarantine", "3,950 tags left", "3.17", "corrected 0.50 s", "qber_too_high",
        "SECURITY blinding: 80 uA in Z0",
    ):  # fmt: skip
        assert words in text


def test_the_view_of_a_node_that_has_just_begun():
    assert "no block yet" in drawn(Status(name="alice", role="alice"), [])


@pytest.mark.parametrize("watcher", [JsonLines, PlainLines])
def test_no_view_shows_the_key(watcher):
    out = io.StringIO()
    lines = watcher(out)
    lines.block(end(), ROW)
    assert "a5a5" not in out.getvalue().lower()
    assert "a5a5" not in repr(end()).lower()


def test_output_that_goes_away_silences_the_view_and_nothing_else(monkeypatch, caplog):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError("no reader")

    silenced = []
    monkeypatch.setattr(screen, "_silence", lambda: silenced.append(True))
    watcher = Tolerant(PlainLines(Gone()))
    watcher.changed(Status(name="bob", role="bob"))
    watcher.block(end(), ROW)
    watcher.alarm(ALARM)
    assert silenced == [True]
    assert "no reader" in caplog.text
