"""What ``qkdpp optimise`` found, as one value (JSON) and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qkdpp.rate.blocks import Blocks, block_sizes
from qkdpp.rate.optimise import Optimum, Task, compromise, optimise, over_losses
from qkdpp.rate.parameters import LEAST_SHARE, Space, Values
from qkdpp.rate.predicted_split import SplitGain, predicted_split
from qkdpp.rate.scenario_edit import lines, settings
from qkdpp.rate.sensitivity import MARKS, Cost, sensitivity

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLoss:
    """One row of a range of losses; rates in secret bits per second, 0 without a key."""

    loss_db: float
    scenario_bps: float
    optimised_bps: float
    one_set_bps: float
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer.

    Attributes:
        format: of the JSON that this makes (``docs/formats/simulated.md``).
        title: of the scenario.
        block_s: duration of a block.
        unlimited: whether the optimum is that for unlimited data.
        free: names of the parameters that were searched.
        best: the optimum at one loss; None for a range.
        losses: one row for each loss of a range.
        one_set: parameters that suit the whole range; None for one loss, or without a key.
        costs: what each free parameter costs when it is off.
        blocks: rate against size of block; None with unlimited data, for a range, or without a key.
        split: division of ``eps_sec``; None where there is none to choose.
    """

    format: int = FORMAT
    title: str
    block_s: float
    unlimited: bool
    free: tuple[str, ...]
    best: Optimum | None = None
    losses: tuple[AtLoss, ...] = ()
    one_set: Values | None = None
    costs: tuple[Cost, ...] = ()
    blocks: Blocks | None = None
    split: SplitGain | None = None

    @property
    def values(self) -> Values | None:
        """The parameters to set; None without a key."""
        if self.best is not None:
            return self.best.after if self.best.after_bps > 0 else None
        return self.one_set


def at_one_loss(asked: Task) -> Found:
    """Optimum, costs, sizes of block and split at the scenario's loss."""
    free = Space(asked.plan, asked.fixed).free
    best = optimise(asked)
    key = best.after_bps > 0
    return Found(
        title=asked.plan.title,
        block_s=asked.block_s,
        unlimited=asked.unlimited,
        free=free,
        best=best,
        costs=sensitivity(asked, best.after, free),
        blocks=block_sizes(asked, best) if key and not asked.unlimited else None,
        split=predicted_split(asked, best.after) if key else None,
    )


def over_range(asked: Task, losses_db: Sequence[float]) -> Found:
    """An optimum for each loss and one set of parameters for all."""
    optima = over_losses(asked, losses_db)
    one = compromise(asked, optima)
    rows = tuple(
        AtLoss(
            loss_db=o.loss_db,
            scenario_bps=o.before_bps,
            optimised_bps=o.after_bps,
            one_set_bps=0.0 if one is None else max(asked.at_loss(o.loss_db).rate(one), 0.0),
            values=o.after,
        )
        for o in optima
    )
    free = Space(asked.plan, asked.fixed).free
    return Found(
        title=asked.plan.title, block_s=asked.block_s, unlimited=asked.unlimited, free=free, losses=rows, one_set=one
    )


def text(asked: Task, found: Found) -> list[str]:
    """The report in lines."""
    kind = "with unlimited data" if found.unlimited else f"in blocks of {seconds(found.block_s)}"
    security = asked.security
    out = [
        found.title,
        f"profile {security.profile}, rule {security.rule}, f {asked.plan.rate.f_ec:g}, eps_sec {security.eps_sec:g}; "
        "expected counts",
    ]
    if "pair_rate_hz" in found.free:
        out.append("visibilities are taken not to change with the pair rate; --fix pair_rate_hz holds it")
    out.append("")
    out += _losses(found, kind) if found.best is None else _best(found.best, found, kind)
    if found.values is None:
        return [*out, "", f"no parameters that were tried give a key{_longer(asked, found)}"]
    if found.unlimited and (found.best is None or found.best.at_limit):
        out += [
            "",
            "With unlimited data rare states cost nothing: the shares of decoys and of the test basis go towards",
            f"0, none below {LEAST_SHARE:g} was tried. Take the intensities from here, the shares from a finite block.",
        ]
    if found.costs:
        out += ["", *_costs(found.costs)]
    if found.blocks is not None:
        out += ["", *_blocks(found.blocks)]
    out += ["", "for the scenario:", *lines(settings(asked.plan, found.values))]
    if found.split is not None and found.split.gain > 0:
        out += ["", f"for run.toml, {percent(found.split.gain)} more key; fixed before the first block:"]
        out += found.split.toml()
    return out


def _longer(asked: Task, found: Found) -> str:
    """Whether more data would help where there is no key."""
    if found.unlimited or found.best is None:
        return ""
    endless = replace(asked, unlimited=True).rate(found.best.after) > 0
    return "; try a longer block" if endless else ", nor would unlimited data with the scenario's"


def _best(best: Optimum, found: Found, kind: str) -> list[str]:
    out = [f"at {best.loss_db:g} dB, {kind}", "", f"{'':16}{'scenario':>12}{'optimised':>12}"]
    for name, value in best.before.items():
        note = "" if name in found.free else "  held"
        note = "  at the limit of the search" if name in best.at_limit else note
        out.append(f"{name:16}{value:>12.4g}{best.after[name]:>12.4g}{note}")
    gain = "" if best.gain is None else f"  {100 * best.gain:+.1f} %"
    return [*out, f"{'secret bits/s':16}{rate(best.before_bps):>12}{rate(best.after_bps):>12}{gain}"]


def _losses(found: Found, kind: str) -> list[str]:
    names = found.free
    head = f"{'loss dB':>8}{'scenario':>12}{'optimised':>12}{'gain':>10}{'one set':>12}  "
    out = [f"secret bits/s {kind}", "", head + "".join(f"{name:>11}" for name in names)]
    for row in found.losses:
        change = f"{100 * (row.optimised_bps / row.scenario_bps - 1):+.1f} %" if row.scenario_bps > 0 else "-"
        rates = f"{rate(row.scenario_bps):>12}{rate(row.optimised_bps):>12}{change:>10}{rate(row.one_set_bps):>12}  "
        chosen = "".join(f"{row.values[name]:>11.4g}" for name in names) if row.optimised_bps > 0 else ""
        out.append(f"{row.loss_db:>8g}{rates}{chosen}")
    if found.one_set is not None:
        one = "".join(f"{found.one_set[name]:>11.4g}" for name in names)
        out.append(f"{'one set, best mean logarithm of the rate':54}  {one}")
    return out


def _costs(costs: Sequence[Cost]) -> list[str]:
    out = ["one parameter off, all others held: secret bits lost", f"{'':20}{'value':>10}{'-10 %':>10}{'+10 %':>10}"]
    for cost in costs:
        lost = "".join(f"{percent(cost.at(mark)):>10}" for mark in MARKS)
        out.append(f"{cost.varied:20}{cost.value:>10.4g}{lost}")
    return out


def _blocks(blocks: Blocks) -> list[str]:
    out = [
        "size of block, parameters chosen anew for each",
        f"{'block':>12}{'pulses':>12}{'bits/s':>12}{'of the limit':>14}",
    ]
    for p in blocks.points:
        out.append(
            f"{seconds(p.block_s):>12}{p.pulses:>12.3g}{rate(p.secret_bps):>12}{p.secret_bps / blocks.limit_bps:>14.1%}"
        )
    out.append(f"{'unlimited':>12}{'':12}{rate(blocks.limit_bps):>12}  with no share below {LEAST_SHARE:g}")
    out += [
        "",
        f"shortest block with the optimised parameters held; unlimited data would give {rate(blocks.held_bps)} bits/s",
    ]
    for r in blocks.reached:
        found = "not reached" if r.block_s is None else f"{seconds(r.block_s)}, {r.pulses:.3g} pulses"
        out.append(f"{r.share:>12.0%}  {found}")
    return out


def seconds(duration_s: float) -> str:
    """A duration as one reads it."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if duration_s >= 2 * size:
            return f"{duration_s / size:.3g} {unit}"
    return f"{duration_s:.3g} s"


def rate(bps: float) -> str:
    """A rate as one reads it."""
    return f"{bps:,.0f}" if bps >= 100 else f"{bps:.3g}"


def percent(share: float) -> str:
    """A share in per cent; what is below the precision of the search is 0."""
    return f"{100 * share:.2f} %" if abs(share) >= 5e-5 else "0 %"
