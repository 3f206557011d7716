"""``docs/formats/node.md`` names every key of a node file with its default, every column of a row, every metric."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from prometheus_client.openmetrics.exposition import generate_latest

from qkdpp.node import config
from qkdpp.node.calibrate.delay_scan import DelayScanSettings
from qkdpp.node.calibrate.polarisation import PolarisationSettings
from qkdpp.node.calibrate.synchronisation import SynchronisationSettings
from qkdpp.node.metrics import STATES, Metrics
from qkdpp.node.monitors import AlarmSettings
from qkdpp.node.rundir import COLUMNS
from qkdpp.node.tracking import TrackingSettings

PAGE = (Path(__file__).parents[2] / "docs" / "formats" / "node.md").read_text(encoding="utf-8")
SECTIONS = {
    "node": config.NodeSection,
    "link": config.LinkSection,
    "pool": config.PoolSection,
    "devices.NAME": config.DeviceSection,
    "sender": config.SenderSection,
    "receiver": config.ReceiverSection,
    "blocks": config.BlocksSection,
    "calibration": config.CalibrationSection,
    "calibration.delay": DelayScanSettings,
    "calibration.polarisation": PolarisationSettings,
    "calibration.synchronisation": SynchronisationSettings,
    "calibration.tracking": TrackingSettings,
    "alarms": AlarmSettings,
    "store": config.StoreSection,
    "delivery": config.DeliverySection,
    "recording": config.RecordingSection,
    "metrics": config.MetricsSection,
}


def cells(text: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.split("\n") if line.startswith("| `")]


def below(heading: str) -> str:
    return re.split(r"\n#{2,3} ", PAGE.split(heading, 1)[1], maxsplit=1)[0]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_and_default_is_there(name):
    table = {row[0].strip("`"): row[1] for row in cells(below(f"`[{name}]`").split("\nPath ")[0])}
    fields = {field.name: field for field in msgspec.structs.fields(SECTIONS[name])}
    assert set(table) == set(fields)
    for key, field in fields.items():
        if field.required:
            assert table[key] == "required"
        elif isinstance(field.default, msgspec.Struct):
            assert table[key] == "below"
        else:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            stated = {"none": None}.get(table[key], ...)
            stated = json.loads(table[key].strip("`")) if stated is ... else stated
            assert stated == (list(default) if isinstance(default, tuple) else default)


def test_every_section_is_there():
    own = {name for name in config._Document.__struct_fields__ if name not in ("format", "protocol")}
    public = {"source", "sync_string", "timing", "detectors", "security", "correction"}
    named = {name.partition(".")[0] for name in SECTIONS}
    assert own == public | named
    assert all(f"`{name}`" in PAGE for name in public)


def test_every_column_is_there():
    table = below("## Run folder").split("Columns of a row", 1)[1]
    assert set(re.findall(r"`(\w+)`", "".join(row[0] for row in cells(table)))) == set(COLUMNS)


def test_every_metric_and_state_is_there():
    text = below("`[metrics]`")
    named = set(re.findall(r"`(qkdpp_\w+)`", "".join(row[0] for row in cells(text.split("Path ", 1)[1]))))
    stock = SimpleNamespace(available=0, incoming=0, capacity=0, totals=dict.fromkeys(("app", "burned", "expired"), 0))
    registry = Metrics("bob", (), lambda: stock).registry
    served = set(re.findall(r"# TYPE (\w+) (\w+)", generate_latest(registry).decode()))
    names = {f"{name}_total" if kind == "counter" else name for name, kind in served}
    assert named == names
    assert all(f"`{state}`" in text for state in STATES)
