"""``qkdpp devices``: list, check, errors."""

import json
import subprocess
import sys

from qkdpp_drivers.sim.__main__ import make


def qkdpp(*arguments):
    command = [sys.executable, "-P", "-m", "qkdpp", "devices", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_list_says_where_each_driver_comes_from_and_whether_it_met_hardware():
    done = qkdpp("--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["tdc1"] == {
        "name": "tdc1",
        "kind": "TimeTagger",
        "instrument": "S-Fifteen Instruments TDC1",
        "transports": "serial, tcp",
        "origin": "qkdpp",
        "state": "never run on hardware",
    }
    plain = qkdpp().stdout.splitlines()
    assert plain[0].split() == ["name", "kind", "instrument", "transports", "origin", "state"]
    assert len(plain) == len(rows) + 1


def test_check_prints_identity_and_settings():
    _, host = make("tdc1")
    with host:
        done = qkdpp("check", host.url, "--driver", "tdc1", "--json")
        found = json.loads(done.stdout)
        assert found["identity"]["vendor"] == "S-Fifteen Instruments"
        assert found["settings"]["threshold_v"] == -0.5
        plain = qkdpp("check", host.url, "--driver", "tdc1")
        assert "threshold_v" in plain.stdout
        other = qkdpp("check", host.url, "--driver", "lectrotic4")
    assert other.returncode == 2
    assert other.stderr.startswith("qkdpp: LectroTIC-4 at serial://")


def test_mistakes_are_one_line_with_code_2():
    for arguments in (("check", "nowhere", "--driver", "tdc1"), ("check", "tcp://127.0.0.1:1", "--driver", "none")):
        done = qkdpp(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("qkdpp: ")
        assert done.stderr.count("\n") == 1
