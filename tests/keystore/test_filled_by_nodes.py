"""Two live runners distil into two stores; one dies on the way; applications at both ends get equal keys."""

import asyncio

from stores import NAMES, OUT_S, Ends
from two_nodes import connected, make, run_block, stop

from qkdpp.core.bits import Bits
from qkdpp.node.quarantine import Quarantine


def test_from_runners_to_applications(ends: Ends) -> None:
    async def distil() -> list[Bits]:
        alice, bob = make()
        alice.sink, bob.sink = ends.a, ends.b
        await connected(alice, bob)
        found = []
        for number in (2, 3, 4):
            first, second = await run_block(alice, bob, number)
            assert isinstance(first.result, Bits)
            assert isinstance(second.result, Bits)
            assert first.result.equals(second.result)
            found.append(first.result)
        await stop(alice, bob)
        return found

    keys = asyncio.run(distil())
    assert [ends.link(own).resting() for own in NAMES] == [[2, 3, 4]] * 2
    seconds = iter(range(100))
    quarantine = Quarantine(store=ends.b, look_back_s=5, now=lambda: float(next(seconds)))
    for number in (2, 3, 4):
        quarantine.rest(number)
    while quarantine.due() != 4:
        pass
    assert ends.a.release(4) == [2, 3, 4]
    ends.meet()
    nbytes = (len(keys[0]) // 8 + len(keys[2]) // 8) // 3
    reservation, got = ends.hand_over("kme-a", 3, nbytes)
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got
    stream = keys[0].to_bytes()[: len(keys[0]) // 8] + keys[2].to_bytes()
    assert b"".join(got.values()) == stream[: 3 * nbytes]
    ends.totals_fit()


def test_what_a_killed_node_left_pending_is_settled_by_the_next(ends: Ends) -> None:
    async def leave_pending() -> None:
        alice, bob = make()
        alice.sink, bob.sink = ends.a, ends.b
        ends.a.stage(2, Bits.zeros(800))
        ends.a.stage(4, Bits.zeros(800))
        ends.b.stage(4, Bits.zeros(800))
        ends.b.ready(4)
        await connected(alice, bob)
        async with asyncio.timeout(OUT_S):
            while ends.a.pending():
                await asyncio.sleep(0.01)
        await stop(alice, bob)

    asyncio.run(leave_pending())
    assert (ends.a.held(2), ends.a.held(4), ends.a.resting()) == (None, 800, [4])
