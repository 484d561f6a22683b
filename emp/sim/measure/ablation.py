"""What each part of the decision rule is worth: sessions of a calibrated flow with it, and without it.

A session is traded once by the whole rule and once for each part without that part, in markets with the same random
numbers, which the orders of each then change. So the difference of two is one paired outcome; its intervals hold for
all parts together (Bonferroni over Student's t). The shadow leaves out what the rule does.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.core.spread import ALONE, Workers, spread
from emp.decision.rule import Part
from emp.decision.student import student_quantile
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.sim.measure.trade_study import OPEN_NS, trade_session
from emp.sim.world.market import Market


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """What a part brings a session, ticks, and what its lots are without it."""

    part: str
    brings: float  # pnl of the whole rule less that without the part, mean of a session
    half: float  # of its interval; those of all parts hold together with 95 %
    pnl_ticks: float  # a session, without it
    lots: float  # closed a session, without it
    realised: float | None  # ticks a lot, without it

    @property
    def verdict(self) -> str:
        """Whether the part is worth something, costs something, or cannot be told from nothing."""
        if self.brings - self.half > 0.0:
            return "earns"
        return "costs" if self.brings + self.half < 0.0 else "not told apart"


class AblationStudy(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the sessions."""

    sessions: int
    events: int  # of each
    pnl_ticks: float  # a session of the whole rule
    lots: float
    parts: list[Ablation]


class Sessions(NamedTuple):
    """What is traded."""

    number: int
    events: int  # of each
    start_px: int  # ticks, where each begins
    seed: int = 1  # of the first


def parts_named(names: Sequence[str] | None) -> tuple[Part, ...]:
    """The parts of some names; all where none is named.

    Raises:
        UsageError: there is no such part.
    """
    known = {str(part.name).lower(): part for part in Part}
    for name in names or ():
        if name not in known:
            raise UsageError(f"--part {name}: must be one of {', '.join(known)}")
    return tuple(dict.fromkeys(known[name] for name in names)) if names else tuple(Part)


def study_ablation(
    params: Array,
    instrument: Instrument,
    model: LoadedModel,
    limits: EngineLimits,
    sessions: Sessions,
    *,
    parts: Sequence[Part] = tuple(Part),
    workers: Workers = ALONE,
    progress: Callable[[float], None] = lambda _: None,
) -> AblationStudy:
    """Trade the sessions of a flow with and without each part, without loss limits.

    Args:
        params: of the flow, as `emp.sim.flow.shipped.named_flow` reads them.
        sessions: two or more.
        workers: who trades them; the study is the same, since a session knows its seed.
    """
    free = msgspec.structs.replace(limits, max_daily_loss=1e12, max_drawdown=1e12)
    masks = [0, *(int(part) for part in parts)]
    done = np.zeros((sessions.number, len(masks), 3))
    trade = partial(_session, study=_Study(params, instrument, model, free, masks, sessions))
    for n, (k, found) in enumerate(spread(trade, range(sessions.number), workers), 1):
        done[k] = found
        progress(n / sessions.number)
    return AblationStudy(
        sessions=sessions.number,
        events=sessions.events,
        pnl_ticks=float(done[:, 0, 0].mean()),
        lots=float(done[:, 0, 1].mean()),
        parts=[ablation(part, done[:, 0], done[:, v + 1], len(parts)) for v, part in enumerate(parts)],
    )


class _Study(NamedTuple):
    """What all sessions share."""

    params: Array
    instrument: Instrument
    model: LoadedModel
    limits: EngineLimits
    masks: list[int]
    sessions: Sessions


def _session(k: int, study: _Study) -> Array:
    """Pnl, lots closed, what they brought, float[masks, 3], of session k traded with each mask."""
    out, sessions = np.zeros((len(study.masks), 3)), study.sessions
    seed = sessions.seed + k
    for v, mask in enumerate(study.masks):
        engine = Engine([study.instrument], study.model, study.limits, f"A{k:07d}")
        engine.desk.costs["without"] = mask
        trade_session(engine, Market(study.params, seed, sessions.start_px, OPEN_NS), sessions.events, seed)
        lots = engine.desk.lots[0]
        out[v] = engine.desk.account["pnl"][0], lots["lots"], lots["brought"]
    return out


def ablation(part: Part, whole: Array, without: Array, parts: int) -> Ablation:
    """One part's figures, from (pnl, lots closed, what they brought) of each session: float[sessions, 3], paired."""
    n = len(whole)
    brings = whole[:, 0] - without[:, 0]
    t = student_quantile(0.025 / parts, n - 1)
    lots = float(without[:, 1].sum())
    return Ablation(
        part=str(part.name).lower(),
        brings=float(brings.mean()),
        half=float(t * brings.std(ddof=1) / np.sqrt(n)),
        pnl_ticks=float(without[:, 0].mean()),
        lots=lots / n,
        realised=float(without[:, 2].sum()) / lots if lots else None,
    )


def ablation_lines(found: AblationStudy) -> list[str]:
    """The study as a Markdown table."""
    lines = [
        f"{found.sessions:,} sessions of {found.events:,} events; whole: {found.pnl_ticks:+.1f} ticks and"
        f" {found.lots:.1f} lots a session",
        "| without | the part brings a session | | PnL | lots | realised a lot |",
        "|---|---|---|---|---|---|",
    ]
    for one in found.parts:
        realised = "-" if one.realised is None else f"{one.realised:+.2f}"
        lines.append(
            f"| {one.part} | {one.brings:+.1f} +- {one.half:.1f} | {one.verdict} | {one.pnl_ticks:+.1f} |"
            f" {one.lots:.1f} | {realised} |"
        )
    return lines
