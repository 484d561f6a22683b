"""The verdict of the gates on a model.

A gate passes only where every record that it reads keeps the limit at the stated confidence, and every instrument
that the model was trained on has such a record. Whatever is missing, made by other code, of another model or of
another reference, of too few blocks, or overlaps the training, fails.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from emp.core.instrument import catalogue
from emp.core.records import Array
from emp.governance.bounds import Bounds, bounds
from emp.governance.evidence import Evidence, Record
from emp.governance.gates import Gates, Rule, Side, rules
from emp.governance.seal import content_address
from emp.model.artifact import Manifest

NO_EVIDENCE = "no evidence: not promotable"


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one gate says."""

    name: str
    limit: float
    value: float | None
    ci: tuple[float, float] | None  # one-sided bounds at the confidence of the gates
    verdict: Literal["pass", "fail", "left out"]
    evidence: tuple[str, ...]
    why: str


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all gates say of a model."""

    model_hash: str
    verdict: Literal["pass", "fail"]
    gates_sha256: str
    reference: str
    code: str
    gates: tuple[Verdict, ...]


class Case(NamedTuple):
    """What is judged, and by what."""

    manifest: Manifest
    evidence: Mapping[str, Evidence]
    reference: str
    code: str


def judge(gates: Gates, case: Case) -> Judgement:
    """The verdict of every gate on a model; where none is asked for, it fails."""
    said = tuple(
        Verdict(rule.name, rule.limit, None, None, "left out", (), "not asked for by this gates file")
        if rule.name in gates.left_out
        else judge_gate(rule, case, gates.confidence)
        for rule in rules(gates)
    )
    asked = [one for one in said if one.verdict != "left out"]
    passed = bool(asked) and all(one.verdict == "pass" for one in asked)
    return Judgement(
        model_hash=case.manifest.hash,
        verdict="pass" if passed else "fail",
        gates_sha256=content_address(gates),
        reference=case.reference,
        code=case.code,
        gates=said,
    )


def judge_gate(rule: Rule, case: Case, confidence: float) -> Verdict:
    """The verdict of one gate: that of the worst record it reads; a record that cannot be judged is the worst."""
    read, foreign = _records(rule, case)
    names = tuple(sorted({name for name, _ in read}))
    lacking = _lacking(rule, case, [record for _, record in read])
    if not read or lacking:
        detail = f" on {', '.join(lacking)}" if lacking and read else ""
        why = f"{NO_EVIDENCE}{detail}" + (f" ({foreign})" if foreign else "")
        return Verdict(rule.name, rule.limit, None, None, "fail", names, why)
    overlapping = [e for e in (case.evidence[name] for name in names) if _overlaps(case.manifest, e)]
    if overlapping:
        return Verdict(rule.name, rule.limit, None, None, "fail", names, "its data overlap the training")
    worst: tuple[float, Bounds, str] | None = None
    for name, record in read:
        where = " ".join(filter(None, (record.series, record.horizon)))
        if rule.among is not None:
            found, where = _among(rule.among, case, name, record, where)
        else:
            found = bounds([rule.sign * x for x in record.blocks], confidence)
        if found is None or len(record.blocks) < rule.least:
            few = f"too few independent blocks: {len(record.blocks)} of at least {rule.least}, {where}"
            if rule.among is not None and len(record.blocks) >= rule.least:
                few = f"no other trial on the same rows, {where}"
            return Verdict(rule.name, rule.limit, None, None, "fail", names, few)
        over = excess(rule.side, rule.limit, found)
        if worst is None or over > worst[0]:
            worst = (over, found, where)
    assert worst is not None
    over, found, where = worst
    ends = (found.low, found.high)
    said: Literal["pass", "fail"] = "pass" if over <= 0.0 else "fail"
    return Verdict(rule.name, rule.limit, found.value, ends, said, names, where)


def _among(
    figure: Callable[[Array, list[Array], int], float], case: Case, name: str, record: Record, where: str
) -> tuple[Bounds | None, str]:
    """A figure of a record of gains among those of all models that were ever judged on the same rows, and in words of
    how many; None where there is no other model.
    """
    rows = _rows_of(case.evidence[name], record)
    others: dict[str, Array] = {}
    models = set()
    for _, one in sorted(case.evidence.items()):
        if one.kind != "evaluation" or rows is None or rows not in {data.rows_sha256 for data in one.data}:
            continue
        models.add(one.model)
        for other in one.records:
            alike = (other.measure, other.series, other.horizon) == (
                record.measure,
                record.series,
                record.horizon,
            )
            if alike and one.model != case.manifest.hash and len(other.blocks) == len(record.blocks):
                others.setdefault(one.model, np.array(other.blocks))
    if not others or not np.isfinite(record.blocks).all():
        return None, where
    value = figure(np.array(record.blocks), list(others.values()), len(models))
    return Bounds(value, value, value), f"{where}, of {len(models)} trials"


def _rows_of(one: Evidence, record: Record) -> str | None:
    return next((data.rows_sha256 for data in one.data if data.series == record.series), None)


def excess(side: Side, limit: float, found: Bounds) -> float:
    """By how much the bound that counts misses the limit; not above 0 where it keeps it.

    "within" is the equivalence test of two one-sided tests (Schuirmann 1987): both bounds inside +-limit.
    """
    if side == "max":
        return found.high - limit
    if side == "min":
        return limit - found.low
    return max(found.high, -found.low) - limit


def _records(rule: Rule, case: Case) -> tuple[list[tuple[str, Record]], str]:
    """Records that a gate reads, and why others of its kind do not count, in words."""
    found: list[tuple[str, Record]] = []
    foreign: dict[str, int] = {}
    for name, one in sorted(case.evidence.items()):
        mine = [(name, r) for r in one.records if _speaks(rule, r)]
        if one.kind != rule.kind or not mine:
            continue
        reason = _foreign(rule, case, one)
        if reason:
            foreign[reason] = foreign.get(reason, 0) + 1
        else:
            found += mine
    return found, ", ".join(f"{n} of {reason}" for reason, n in foreign.items())


def _speaks(rule: Rule, record: Record) -> bool:
    horizon = record.horizon in (rule.horizons or (rule.horizon or record.horizon,))
    return record.measure == rule.measure and horizon and (rule.of is None or rule.of(record.asset_class))


def _foreign(rule: Rule, case: Case, one: Evidence) -> str:
    """Of what else an evidence is; "" where it is of this model and this code."""
    if one.kind != "chaos" and one.model != case.manifest.hash:
        return "another model"
    if one.code != case.code:
        return "other code"
    if rule.against and one.reference != case.reference:
        return "another reference"
    return ""


def _lacking(rule: Rule, case: Case, read: Iterable[Record]) -> list[str]:
    """Instruments of the model's training that the gate asks for and has no record of, at one of its horizons."""
    if rule.of is None:
        return []
    had = {(record.instrument, record.horizon) for record in read}
    known = {name: one.asset_class.name.lower() for name, one in catalogue().items()}
    wanted = {
        one["instrument"]: one.get("asset_class") or known.get(one["instrument"])
        for one in case.manifest.provenance.get("series", [])
    }
    # an instrument of which nobody knows what it is could be one that the gate is about
    asked = [name for name, told in wanted.items() if not told or rule.of(told)]
    instruments = {name for name, _ in had}
    missing = [name for name in asked if name not in instruments]
    missing += [
        f"{n} {h}".strip() for n in instruments & set(asked) for h in rule.horizons if (n, h) not in had
    ]
    return sorted(missing)


def _overlaps(manifest: Manifest, one: Evidence) -> bool:
    """Whether data of an evidence are of an instrument and a time that the model was trained on.

    Where the model says its rows, `emp evaluate` has compared them, and refused to make such evidence.
    """
    return any(
        data.instrument == used["instrument"]
        and data.span[0] < used["calibrate_ns"][1]
        and used["train_ns"][0] < data.span[1]
        for data in one.data
        for used in manifest.provenance.get("series", [])
        if "rows_sample" not in used
    )
