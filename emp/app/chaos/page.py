"""The timeline of one world as a page that needs nothing else."""

import html
from pathlib import Path

from emp.app.chaos.world import Outcome
from emp.core.errors import UsageError
from emp.sim.chaos.plan import Plan

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}td{padding:.15rem .6rem;vertical-align:top}
td:first-child{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;color:#666}
tr.fault{background:#fff3d6}tr.check{background:#ffd9d9;font-weight:600}tr.world,tr.disk{background:#eee}
tr.owner{background:#e3f0ff}svg{width:100%;height:40px}
"""


def write_page(path: Path, plan: Plan, outcome: Outcome) -> None:
    """Write the page; UsageError where that cannot be done."""
    try:
        path.write_text(page(plan, outcome), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def page(plan: Plan, outcome: Outcome) -> str:
    """What happened when: a strip with every fault and violation, and a row for each thing that was said."""
    last = max(1.0, outcome.virtual_s * 1000)
    marks = "".join(
        f'<line x1="{at / last * 1000:.1f}" x2="{at / last * 1000:.1f}" y1="0" y2="40"'
        f' stroke="{"#c00" if who == "check" else "#d90"}" stroke-width="2"><title>{html.escape(what)}</title></line>'
        for at, who, what in outcome.timeline
        if who in ("fault", "check")
    )
    rows = "\n".join(
        f'<tr class="{html.escape(who.split()[0])}"><td>{at / 1000:.3f} s</td><td>{html.escape(who)}</td>'
        f"<td>{html.escape(what)}</td></tr>"
        for at, who, what in outcome.timeline
    )
    verdict = "; ".join(f"{one.check}: {one.what}" for one in outcome.violations) or "no violation"
    words = (
        f"{outcome.starts} starts, {outcome.orders} orders, {outcome.fills} fills in {outcome.virtual_s:.0f} s;"
        f" ended {outcome.ended or 'violated'}; {verdict}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>World {plan.seed}</title>'
        f"<style>{_STYLE}</style><h1>World {plan.seed}, over {html.escape(plan.door)}</h1><p>{html.escape(words)}</p>"
        f'<svg viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label="faults over time">{marks}</svg>'
        f"<table>{rows}</table></html>\n"
    )
