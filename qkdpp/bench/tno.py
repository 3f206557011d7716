"""Cascade and Winnow of TNO's package for key rates, as jobs on two lists of bits."""

from __future__ import annotations

from copy import deepcopy

from qkdpp.bench.workload import Job

INSTALL = "pip install tno.quantum.communication.qkd_key_rate"
PASSES, SAMPLING_FRACTION = 8, 0.34
"""Values of the package's own example."""


def tno_cascade(alice: list[int], bob: list[int], qber: float) -> Job:
    """Cascade, both parties."""
    from tno.quantum.communication.qkd_key_rate import classical  # noqa: PLC0415 - optional
    from tno.quantum.communication.qkd_key_rate.classical import cascade  # noqa: PLC0415

    orders = classical.Permutations.random_permutation(PASSES, len(alice), random_state=1)
    strategy = classical.ParityStrategy(error_rate=qber, sampling_fraction=SAMPLING_FRACTION, number_of_passes=PASSES)

    def job() -> object:
        sender = cascade.CascadeSender(classical.Message(alice), orders)
        receiver = cascade.CascadeReceiver(classical.Message(bob), orders, strategy)
        return cascade.CascadeCorrector(sender, receiver).correct_errors()

    return job


def tno_winnow(alice: list[int], bob: list[int], qber: float) -> Job:
    """Winnow, both parties."""
    from tno.quantum.communication.qkd_key_rate import classical  # noqa: PLC0415 - optional
    from tno.quantum.communication.qkd_key_rate.classical import winnow  # noqa: PLC0415

    fresh = classical.Schedule.schedule_from_error_rate(qber)
    unused = classical.Permutations.random_permutation(sum(fresh.schedule), len(alice), random_state=1)

    def job() -> object:
        schedule, orders = deepcopy(fresh), deepcopy(unused)  # a run uses them up
        sender = winnow.WinnowSender(classical.Message(alice), orders, schedule)
        receiver = winnow.WinnowReceiver(classical.Message(bob), orders, schedule)
        return winnow.WinnowCorrector(sender, receiver).correct_errors()

    return job
