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


def of_league(
    model: str,
    reference: str,
    deltas: Mapping[str, Sequence[float]],
    episodes: int,
    config: dict[str, Any],
    seed: int,
) -> Evidence:
    """Evidence of leagues: by market, how much easier a model's rule is to exploit than the reference's, by seed."""
    records = [
        Record(
            "exploitability_delta", market, "", "", "", tuple(map(float, one)), "seed", episodes * len(one)
        )
        for market, one in deltas.items()
    ]
    return new_evidence("league", model, records, config, seed, reference=reference)


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
