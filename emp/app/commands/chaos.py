"""Drills: whole runs in worlds of one seed, with everything that can go wrong, checked after every event."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE, Jobs, Ray, takes_options

if TYPE_CHECKING:
    from emp.app.chaos.drill import Result
    from emp.app.chaos.world import Outcome
    from emp.sim.chaos.plan import Plan

app = typer.Typer()


class Options(NamedTuple):
    """What the command takes."""

    seeds: Annotated[int, typer.Option(min=1, help="How many worlds.")] = 100
    first: Annotated[int, typer.Option("--from", min=0, help="The first seed.")] = 0
    jobs: Jobs = 0
    ray: Ray = ""
    seconds: Annotated[float, typer.Option(min=0.0, help="Begin no world after so long; 0: no limit.")] = 0.0
    kinds: Annotated[str, typer.Option(help="Only these kinds of faults, with commas between.")] = ""
    results: Annotated[
        Path | None, typer.Option(help="Keep results here, and go on with what this code has kept.")
    ] = None
    replay: Annotated[int | None, typer.Option(min=0, help="Play this seed alone, and show it.")] = None
    only: Annotated[str, typer.Option(help="With --replay: numbers of the faults to keep, as 1,3.")] = ""
    page: Annotated[Path | None, typer.Option(help="With --replay: write the timeline as HTML.")] = None
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Break the engine in planted ways: which seed finds it?")
    ] = False
    mutant: Annotated[str, typer.Option(help="With --mutants: only those whose name holds this.")] = ""
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def chaos(options: Options) -> None:
    """Run the real engine, session, ledger and journal in simulated worlds: network, disk, clock, venue and owner.

    Each seed is one plan of faults, and plays the same every time. The exit code is 8 where a check is violated; the
    first failing seed is shrunk to the fewest faults and shown with the line that plays it again.
    """
    if options.mutants:
        _mutants(options)
    elif options.replay is not None:
        _replay(options, options.replay)
    else:
        _sweep(options)


def _kinds(options: Options) -> tuple[str, ...]:
    return tuple(kind for kind in options.kinds.split(",") if kind)


def _sweep(options: Options) -> None:
    from emp.app.chaos.drill import Kept, plan_of, sweep
    from emp.app.terminal.progress import Work
    from emp.core.spread import Workers

    kinds = _kinds(options)
    plan_of(0, kinds)  # an unknown kind ends here
    kept = Kept(options.results, kinds)
    wanted = range(options.first, options.first + options.seeds)
    missing = [seed for seed in wanted if seed not in kept.results]
    began = time.perf_counter()
    workers = Workers(options.jobs, options.ray)

    def late() -> bool:
        return 0.0 < options.seconds < time.perf_counter() - began

    with Work("worlds") as work:
        for n, result in enumerate(sweep(missing, workers=workers, kinds=kinds, until=late), 1):
            kept.add(result)
            bad = sum(bool(one.violations) for one in kept.results.values())
            work.report(f"{n} of {len(missing)} worlds, {bad} violated", n / len(missing))
    found = [kept.results[seed] for seed in wanted if seed in kept.results]
    summary = _summary(found, time.perf_counter() - began, len(missing))
    failing = next((one for one in found if one.violations), None)
    if options.evidence is not None and not kinds:
        from emp.governance.collect import of_chaos
        from emp.governance.evidence import Store

        config = {"first": options.first, "asked": options.seeds, "played": len(missing)}
        played = [result for result in found if result.seed in missing]  # what a file says nobody has signed
        one = of_chaos([len(result.violations) for result in played], config)
        summary["evidence"] = Store(options.evidence).add(one)
    _show(found, summary)
    if failing is not None:
        summary |= _shrink(failing, kinds)
    if options.as_json:
        print(json.dumps(summary))
    if failing is not None:
        raise typer.Exit(8)


def _summary(found: "Sequence[Result]", wall_s: float, played: int) -> dict[str, Any]:
    faults: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for one in found:
        faults.update(one.faults)
        ended[one.ended or "violated"] += 1
    virtual_s = sum(one.virtual_s for one in found)
    cpu_s = sum(one.cpu_s for one in found)
    failing = [one for one in found if one.violations]
    seeds = [one.seed for one in failing]
    return {
        "seeds": len(found),
        "violations": sum(len(one.violations) for one in found),
        "faults": dict(sorted(faults.items())),
        "first_failing_seed": seeds[0] if seeds else None,
        "failing_seeds": seeds,
        "ended": dict(sorted(ended.items())),
        "starts": sum(one.starts for one in found),
        "orders": sum(one.orders for one in found),
        "fills": sum(one.fills for one in found),
        "market_s": round(virtual_s, 1),
        "cpu_s": round(cpu_s, 1),
        "wall_s": round(wall_s, 1),
        "played": played,
        "speed_ratio": round(virtual_s / cpu_s, 1) if cpu_s else 0.0,
    }


def _show(found: "Sequence[Result]", summary: dict[str, Any]) -> None:
    """The table of faults and what worlds that had them came to."""
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table
    from emp.sim.chaos.plan import KINDS

    ends = ("trading", "watching", "halted", "refused")
    table = Table("fault", "befell", *ends, "violated", "what it is")
    for kind in KINDS:
        had = [one for one in found if kind in one.faults]
        if had:
            counts = [str(sum(one.ended == end for one in had)) for end in ends]
            violated = str(sum(bool(one.violations) for one in had))
            table.add_row(
                kind, str(sum(one.faults[kind] for one in had)), *counts, violated, KINDS[kind].what
            )
    console = make_console()
    print_table(console, table)
    console.print(
        f"{summary['seeds']} worlds, {summary['starts']} starts, {summary['orders']} orders,"
        f" {summary['market_s']:.0f} s of market in {summary['cpu_s']:.0f} s of CPU time"
        f" ({summary['speed_ratio']:.0f} times faster): {summary['violations']} violations"
    )
    for one in found:
        for first in one.violations[:1]:
            console.print(f"violated: seed {one.seed}, {first.check}: {first.what}")


def _shrink(failing: "Result", kinds: tuple[str, ...]) -> dict[str, Any]:
    """Cut the first failing seed down, and say how to see it again."""
    from emp.app.chaos.drill import kept_faults, plan_of, prepare, shrunk
    from emp.app.terminal.console import make_console

    whole, first = plan_of(failing.seed, kinds), failing.violations[0]
    prepare()
    part = shrunk(whole, first.check)
    numbers = ",".join(map(str, kept_faults(whole, part))) or "0"
    again = f"emp chaos --replay {failing.seed} --only {numbers}" + (
        f" --kinds {','.join(kinds)}" if kinds else ""
    )
    console = make_console()
    console.print(f"seed {failing.seed}: {first.check} at {first.at_ms / 1000:.3f} s: {first.what}")
    for fault in part.faults:
        console.print(f"  {fault.said()}")
    console.print(f"again: {again}")
    return {"failing": {"check": first.check, "what": first.what, "again": again}}


def _replay(options: Options, seed: int) -> None:
    from emp.app.chaos.drill import plan_of, play, prepare
    from emp.app.chaos.page import write_page

    plan = _cut(plan_of(seed, _kinds(options)), options.only)
    prepare()
    began = time.process_time()
    outcome = play(plan)
    cpu_s = time.process_time() - began
    _tell(plan, outcome)
    if options.page is not None:
        write_page(options.page, plan, outcome)
    if options.as_json:
        failing = outcome.violations[0] if outcome.violations else None
        facts = {
            "seeds": 1,
            "violations": len(outcome.violations),
            "faults": outcome.faults,
            "first_failing_seed": seed if failing else None,
            "checks": [[one.check, one.at_ms, one.what] for one in outcome.violations],
            "ended": outcome.ended,
            "told_sha256": outcome.told,
            "action_log_sha256": outcome.action_log,
            "speed_ratio": round(outcome.virtual_s / cpu_s, 1),
        }
        print(json.dumps(facts))
    if outcome.violations:
        raise typer.Exit(8)


def _cut(plan: "Plan", only: str) -> "Plan":
    """The plan with only some of its faults."""
    import msgspec

    from emp.core.errors import UsageError

    if not only:
        return plan
    numbers = [part.strip() for part in only.split(",")]
    if not all(part.isdigit() and int(part) <= len(plan.faults) for part in numbers):
        raise UsageError(f"--only {only}: numbers of the {len(plan.faults)} faults, as 1,3; 0 for none")
    chosen = {int(part) for part in numbers}
    return msgspec.structs.replace(
        plan, faults=tuple(one for k, one in enumerate(plan.faults, 1) if k in chosen)
    )


def _tell(plan: "Plan", outcome: "Outcome") -> None:
    from emp.app.terminal.console import make_console

    console = make_console()
    console.print(f"seed {plan.seed}, a venue that speaks {plan.door}; faults:")
    for k, fault in enumerate(plan.faults, 1):
        console.print(f"  {k}. {fault.said()}", highlight=False)
    for at_ms, who, what in outcome.timeline:
        console.print(f"{at_ms / 1000:9.3f}  {who:<14} {what}", highlight=False, markup=False)
    words = "; ".join(f"{one.check}: {one.what}" for one in outcome.violations) or "no violation"
    console.print(f"ended {outcome.ended or 'violated'}: {words}", highlight=False, markup=False)


def _mutants(options: Options) -> None:
    import msgspec
    from rich.table import Table

    from emp.app.chaos.mutants import hunt, mutants
    from emp.app.terminal.console import make_console
    from emp.app.terminal.progress import Work
    from emp.app.terminal.table import print_table
    from emp.core.platform import usable_cores

    chosen = mutants(options.mutant)
    found = []
    with Work("mutants") as work:
        for n, one in enumerate(hunt(chosen, options.seeds, options.jobs or usable_cores()), 1):
            found.append(one)
            work.report(f"{n} of {len(chosen)} mutants", n / len(chosen))
    found.sort(key=lambda one: [m.name for m in chosen].index(one.name))
    table = Table("mutant", "killed", "seed", "seeds needed", "by")
    for one in found:
        table.add_row(
            one.name, "yes" if one.killed else "NO", str(one.seed), str(one.seeds_needed), one.check
        )
    print_table(make_console(), table)
    survivors = [one.name for one in found if not one.killed]
    if options.as_json:
        facts = [msgspec.to_builtins(one) for one in found]
        print(json.dumps({"mutants": facts, "killed": len(found) - len(survivors), "survivors": survivors}))
    if survivors:
        raise typer.Exit(8)
