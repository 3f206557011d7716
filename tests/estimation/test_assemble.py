"""The common end of the key lengths: costs, rounding, and where a key is looked for."""

import pytest

from qkdpp.core.errors import InputError
from qkdpp.estimation import KeyLength, Security
from qkdpp.estimation.assemble import Costs, assembled


def end(statistics: dict[str, float], costs: tuple[int, int, int], **changes) -> KeyLength:
    leak, verification, dropped = costs
    fixed = {
        "unlimited": 1000.0,
        "at_scale": lambda factor: 1000.0 * factor - 2000.0,
        "detections": 500,
        "phase_error_upper": 0.1,
        "bounds": (),
        "security": Security(),
        "profile": "V",
        "formula": "a formula",
        "notes": (),
    }
    charged = Costs(leak_bits=leak, verification_bits=verification, dropped_bits=dropped, keyed=600)
    return assembled(statistics, charged, **{**fixed, **changes})


def test_every_cost_is_charged_once_and_the_length_rounded_down():
    found = end({"single photons": 500.0, "phase errors": -100.25}, (100, 60, 30))
    assert (found.value, found.secret_bits, found.single_photon_bits) == (209.75, 209, 500)
    assert found.secret_bits_asymptotic == 1000 - 100 - 30  # a tag does not grow with the block
    assert found.detections_needed is None


def test_a_length_is_never_negative():
    found = end({"single photons": 10.0}, (100, 60, 0), unlimited=-5.0)
    assert (found.value, found.secret_bits, found.secret_bits_asymptotic) == (-150.0, 0, 0)
    assert found.detections_needed is None


def test_detections_needed_charges_what_grows_and_what_does_not():
    """1000 f - 2000 - 100 f - 60 reaches one bit at f = 2.29; found to one per cent, from above."""
    needed = end({"single photons": 10.0}, (100, 60, 0)).detections_needed
    assert 500 * 2061 / 900 <= needed <= 1.01 * 500 * 2061 / 900 + 1
    assert end({"single photons": 10.0}, (100, 60, 0), foresee=False).detections_needed is None


@pytest.mark.parametrize("costs", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 601)])
def test_costs_that_are_none(costs):
    with pytest.raises(InputError):
        end({"single photons": 10.0}, costs)
