"""The verdict of the gates on a model.

A gate passes only where every record that it reads keeps the limit at the stated confidence, and every instrument
that the model was trained on has such a record. Whatever is missing, made by other code, of another model or of
another reference, of too few blocks, or overlaps the training, fails.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import itemgetter
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from emp.governance.bounds import Bounds, bounds
from emp.governance.collect import other_terms
from emp.governance.contests import best_contest, counts, of_contests
from emp.governance.evidence import Evidence, Record
from emp.governance.foreign import of_paper, picked, played_again
from emp.governance.gates import Gates, Rule, Side, rules
from emp.governance.reference import Likeness
from emp.governance.seal import content_address
from emp.governance.sound import asset_classes, impossible, unsound
from emp.governance.trials import trials_of
from emp.model.artifact import Manifest, saw_in_training, trained_on

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
    likeness: Likeness = "other"  # what the reference is to the model


class Case(NamedTuple):
    """What is judged, and by what."""

    manifest: Manifest
    evidence: Mapping[str, Evidence]
    reference: str
    code: str
    champion: str = ""  # the model that it must have beaten on live events; "": whichever serves
    likeness: Likeness = "other"  # what the reference is to the model: live asks for it
    now_ns: int | None = None  # of what has come by then; None: nobody asks


def judge(gates: Gates, case: Case) -> Judgement:
    """The verdict of every gate on a model; where none is asked for, it fails."""
    case = case._replace(evidence=_read_by_any(gates, case))
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
        likeness=case.likeness,
    )


def fails_now(gates: Gates, case: Case) -> list[Verdict]:
    """Gates that a promoted model fails by a figure beyond the limit, or by evidence that cannot be. Not those that
    look at others too: trials that came after it do not make it a worse choice, and a champion that it has beaten may
    be gone. A look that is too small to tell says nothing; of what its paper days say together, `paper_lacks` is asked.
    """
    read = _read_by_any(gates, case)
    looks = {name: one for name, one in read.items() if one.config.get("of") != "paper"}
    alone = [rule for rule in rules(gates) if rule.among is None and rule.kind != "contest"]
    asked = [rule for rule in alone if rule.name not in gates.left_out]
    said = [_fails(rule, case._replace(evidence=looks), gates.confidence) for rule in asked]
    return [one for one in said if one is not None]


def _read_by_any(gates: Gates, case: Case) -> dict[str, Evidence]:
    """Evidence of kinds that some gate reads: of what runs have signed hour by hour there are years."""
    kinds = {kind for rule in rules(gates) for kind in (rule.kind, *rule.also)}
    return {name: one for name, one in case.evidence.items() if one.kind in kinds}


def _fails(rule: Rule, case: Case, confidence: float) -> Verdict | None:
    """That one gate fails by what can be judged of what it reads; None where it does not. What is too small to judge
    hides nothing of the rest.
    """
    read, _ = _records(rule, case)
    why = _cannot_be(rule, case, read)
    if why:
        return Verdict(rule.name, rule.limit, None, None, "fail", _names(read), why)
    if rule.exact:  # what breaks it does so in however few rows
        rule = rule._replace(least=1, rows=0)
    judged = [_figure(rule, case, name, record, confidence) for name, record in read]
    found = [(excess(rule.side, rule.limit, one), one, where) for one, where in judged if one is not None]
    return _worst(rule, read, found) if any(over > 0.0 for over, _, _ in found) else None


def judge_gate(rule: Rule, case: Case, confidence: float) -> Verdict:
    """The verdict of one gate: that of the worst record it reads; a record that cannot be judged is the worst."""
    read, foreign = _records(rule, case)
    names = _names(read)
    if not trained_on(case.manifest):
        why = "the model does not say what it was trained on"
        return Verdict(rule.name, rule.limit, None, None, "fail", names, why)
    asked = _asked(rule, case)
    lacking = _lacking(rule, asked, [record for _, record in read]) or _silent(rule, asked, case, read)
    if not read or lacking:
        detail = f" on {', '.join(lacking)}" if lacking and read else ""
        why = f"{NO_EVIDENCE}{detail}" + (f" ({foreign})" if foreign else "")
        return Verdict(rule.name, rule.limit, None, None, "fail", names, why)
    why = _cannot_be(rule, case, read)
    if why:
        return Verdict(rule.name, rule.limit, None, None, "fail", names, why)
    judged: list[tuple[float, Bounds, str]] = []
    for name, record in best_contest(read) if rule.kind == "contest" else read:
        found, where = _figure(rule, case, name, record, confidence)
        if found is None:
            return Verdict(rule.name, rule.limit, None, None, "fail", names, where)
        judged.append((excess(rule.side, rule.limit, found), found, where))
    return _worst(rule, read, judged)


def _worst(
    rule: Rule, read: Sequence[tuple[str, Record]], judged: Sequence[tuple[float, Bounds, str]]
) -> Verdict:
    """The verdict of the worst of what was judged: by how much it misses the limit, its bounds and of what they are."""
    over, found, where = max(judged, key=itemgetter(0))
    said: Literal["pass", "fail"] = "pass" if over <= 0.0 else "fail"
    ends = (found.low, found.high)
    return Verdict(rule.name, rule.limit, found.value, ends, said, _names(read), where)


def _names(read: Sequence[tuple[str, Record]]) -> tuple[str, ...]:
    return tuple(sorted({name for name, _ in read}))


def _cannot_be(rule: Rule, case: Case, read: Sequence[tuple[str, Record]]) -> str:
    """Why the evidence that a gate reads is not what was measured of the model, in words; "" where it can be."""
    cut = [name for name, one in case.evidence.items() if _mine(rule, case, one) and not one.whole]
    if cut:
        return f"records of {cut[0][:8]} were cut"
    names = _names(read)
    if any(_overlaps(case.manifest, case.evidence[name]) for name in names):
        return "its data overlap the training"
    for name in names:
        why = unsound(case.evidence[name], case.now_ns)
        if why:
            return why
    return next(filter(None, (impossible(record, case.evidence[name]) for name, record in read)), "")


def _figure(
    rule: Rule, case: Case, name: str, record: Record, confidence: float
) -> tuple[Bounds | None, str]:
    """What a record comes to, and of what in words; None, and why, where it comes to nothing."""
    where = _where(record)
    if len(record.blocks) < rule.least:
        few = f"{len(record.blocks)} of at least {rule.least}"
        return None, f"too few independent blocks: {few}, {where}"
    if record.n < rule.rows:
        return None, f"too few rows: {record.n} of at least {rule.rows}, {where}"
    if rule.exact:
        worst = max(rule.sign * x for x in record.blocks)
        told = all(isfinite(x) for x in record.blocks)
        return (Bounds(worst, worst, worst), where) if told else (None, f"not a number: {where}")
    if rule.kind == "contest":
        return of_contests(name, record, case.evidence)
    if rule.among is None:
        found = bounds([rule.sign * x for x in record.blocks], confidence)
        return found, where if found is not None else f"not a number: {where}"
    trials = trials_of(case.evidence, name, record)
    if trials.why:
        return None, f"{trials.why}, {where}"
    value = rule.among(np.array(record.blocks), trials.others, trials.models)
    if not isfinite(value):
        return None, f"not a number: {where}"
    return Bounds(value, value, value), f"{where}, of {trials.models} trials"


def _where(record: Record) -> str:
    return " ".join(filter(None, (record.series, record.horizon)))


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
        if not _read(rule, one) or not mine:
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


def _mine(rule: Rule, case: Case, one: Evidence) -> bool:
    return _read(rule, one) and not _foreign(rule, case, one)


def _read(rule: Rule, one: Evidence) -> bool:
    return one.kind == rule.kind or one.kind in rule.also


def _foreign(rule: Rule, case: Case, one: Evidence) -> str:
    """Of what else an evidence is; "" where it is of this model and this code."""
    if one.kind != "chaos" and one.model != case.manifest.hash:
        return "another model"
    if one.code != case.code:
        return "other code"
    if rule.against and one.reference != case.reference:
        return "another reference"
    if one.kind == "league" and other_terms(one):
        return "other terms than those that count"
    if one.kind == "contest" and not counts(one, case.champion):
        return "another champion, or a market played again"
    if of_paper(one) and played_again(one):
        return "a market played again"
    if rule.outside and saw_in_training(case.manifest).intersection(data.instrument for data in one.data):
        return "an instrument of the training"
    return picked(one) if rule.outside else ""


def _asked(rule: Rule, case: Case) -> list[str]:
    """Instruments of the model's training that the gate asks for."""
    if rule.of is None:
        return []
    known = asset_classes()
    wanted = {
        one["instrument"]: one.get("asset_class") or known.get(one["instrument"])
        for one in case.manifest.provenance.get("series", [])
    }
    # an instrument of which nobody knows what it is could be one that the gate is about
    return [name for name, told in wanted.items() if not told or rule.of(told)]


def _lacking(rule: Rule, asked: Sequence[str], read: Iterable[Record]) -> list[str]:
    """Instruments that the gate asks for and has no record of, at one of its horizons."""
    had = {(record.instrument, record.horizon) for record in read}
    instruments = {name for name, _ in had}
    missing = [name for name in asked if name not in instruments]
    missing += [
        f"{n} {h}".strip() for n in instruments & set(asked) for h in rule.horizons if (n, h) not in had
    ]
    return sorted(missing)


def _silent(rule: Rule, asked: Sequence[str], case: Case, read: Sequence[tuple[str, Record]]) -> list[str]:
    """Series that an evidence has looked at and has no record of, though it can always be measured: it was no number,
    which another series of the same instrument does not make good.
    """
    if not rule.always:
        return []
    had = {(name, record.series, record.horizon) for name, record in read}
    return sorted(
        f"{data.series} {horizon}".strip()
        for name in dict.fromkeys(name for name, _ in read)
        for data in case.evidence[name].data
        for horizon in rule.horizons or (rule.horizon or "",)
        if data.instrument in asked and (name, data.series, horizon) not in had
    )


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
