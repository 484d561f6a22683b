"""From what was measured to evidence: latencies, drills, stylised facts (`evaluated.py` has evaluations)."""

from collections.abc import Mapping, Sequence
from typing import Any

from emp.governance.evidence import Evidence, Record, new_evidence


def of_latency(model: str, rounds: Sequence[Mapping[str, Any]], config: dict[str, Any]) -> Evidence:
    """Evidence of the event path: the p99 of every round, ms, each a block."""
    records = [
        _plain(f"{part}_p99_ms", [r[f"{part}_us"]["p99"] / 1e3 for r in rounds], len(rounds))
        for part in ("adapter", "model", "total")
    ]
    return new_evidence("latency", model, records, config)


def of_steps(p99_us: Mapping[str, Sequence[float]], config: dict[str, Any]) -> Evidence:
    """Evidence of the compiled step of networks of random weights, by size: the p99 of every round, ms, each a block.
    It is of no artifact, so no gate of a model reads it.
    """
    records = [
        _plain(f"step_p99_ms.{name}", [one / 1e3 for one in rounds], len(rounds))
        for name, rounds in p99_us.items()
    ]
    return new_evidence("latency", "", records, config)


def of_chaos(violations: Sequence[int], config: dict[str, Any]) -> Evidence:
    """Evidence of the drills: violations in every world, each a block."""
    return new_evidence("chaos", "", [_plain("violations", violations, len(violations))], config)


LEAGUE_TERMS: dict[str, Any] = {
    "rounds": 20,
    "pairs": 6,
    "episodes": 8,
    "held_out": 200,
    "seeds": 8,
    "first": 1,
    "markets": ["large-tick", "small-tick"],
}
"""How a gap is measured that counts: nobody chooses seeds or markets, or how hard somebody tries to exploit."""


def of_league(model: str, reference: str, deltas: Mapping[str, Sequence[float]]) -> Evidence:
    """Evidence of leagues on the terms that count: by market, how much easier a model's rule is to exploit than the
    reference's, a block for each seed.
    """
    n = LEAGUE_TERMS["held_out"] * LEAGUE_TERMS["seeds"]
    records = [
        Record("exploitability_delta", market, "", "", "", tuple(map(float, one)), "seed", n)
        for market, one in sorted(deltas.items())
    ]
    return new_evidence("league", model, records, LEAGUE_TERMS, LEAGUE_TERMS["first"], reference=reference)


def other_terms(one: Evidence) -> bool:
    """Whether evidence of a league is not on the terms that count, or not of all of its markets and seeds."""
    told = [(record.series, len(record.blocks)) for record in one.records]
    wanted = [(market, LEAGUE_TERMS["seeds"]) for market in LEAGUE_TERMS["markets"]]
    return one.config != LEAGUE_TERMS or told != wanted


def of_facts(passed: int, failed: int, config: dict[str, Any], seed: int) -> Evidence:
    """Evidence of the stylised facts: how many of one simulation hold; one look, so no interval."""
    records = [
        _plain("facts_passed", [passed], passed + failed),
        _plain("facts_failed", [failed], passed + failed),
    ]
    return new_evidence("facts", "", records, config, seed)


def _plain(measure: str, blocks: Sequence[float], n: int) -> Record:
    return Record(
        measure=measure,
        series="",
        instrument="",
        asset_class="",
        horizon="",
        blocks=tuple(float(x) for x in blocks),
        kind_of_block="run",
        n=n,
    )
