"""The page: one HTML file with everything in it, readable offline and in ten years; its script only zooms."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from emp.app.report import plots
from emp.app.report.data import RunData, actions, alpha_table, read_run
from emp.core.errors import DataError
from emp.engine.spans import CALIBRATED, NOT_KNOWN, TRAINED, UNSEEN
from emp.engine.view_parts import money_of

CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #f5f7fa; margin: 0; }
main { max-width: 1000px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 16px; margin: 28px 0 8px; }
.sub { color: #616e7c; font-size: 13px; word-break: break-all; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; margin: 18px 0; }
.card, figure, .box { background: #fff; border: 1px solid #e4e7eb; border-radius: 8px; }
.card { padding: 10px 14px; } .card b { display: block; font-size: 19px; font-variant-numeric: tabular-nums; }
.card span { color: #616e7c; font-size: 12px; }
figure { margin: 0 0 12px; padding: 10px 12px; } figcaption { font-size: 13px; color: #616e7c; margin-bottom: 4px; }
figure svg { width: 100%; height: auto; display: block; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 12px; }
.box { padding: 6px 12px; overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid #eef1f4; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } .bad { color: #c02626; } .note { font-size: 13px; color: #616e7c; }
"""


ZOOM = Path(__file__).with_name("zoom.js").read_text(encoding="utf-8")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    + base64.b64encode(hashlib.sha256(ZOOM.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'"
)
"""Nothing is loaded from anywhere, and no other script runs, whatever a name in the run's folder holds."""


def write_report(run_folder: Path, out: Path) -> list[RunData]:
    """Write the page of a run; raise DataError in one line where it cannot be read or written."""
    runs = read_run(run_folder)
    write_page(runs, out)
    return runs


def write_page(runs: Sequence[RunData], out: Path) -> None:
    """Write the page of a run that was read; raise DataError in one line where it cannot be written."""
    try:
        out.write_text(render(runs), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from error


def render(runs: Sequence[RunData]) -> str:
    """The page of a run as HTML: what each of its instruments did."""
    first = runs[0]
    names = ", ".join(run.instrument for run in runs)
    title = f"{names}, {first.manifest['mode']} run {first.manifest['run']}"
    models = ", ".join(str(m)[:12] for m in first.manifest["model_hashes"])
    log = first.summary.get("action_log_sha256", "not closed")
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<div class='sub'>model {escape(models)} · code {escape(str(first.manifest['code']))}"
        f" · action log {escape(str(log))}</div>",
        cards(run_figures(first)),
    ]
    if len(runs) > 1:
        parts.append(instruments(runs))
    for run in runs:
        parts += [f"<h1 id='{escape(run.instrument)}'>{escape(run.instrument)}</h1>"] if len(runs) > 1 else []
        parts += instrument(run)
    if first.summary:
        parts.append(quarantine(kept_out(first.summary)))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
        f"<style>{CSS}</style></head><body><main>{''.join(parts)}</main><script>{ZOOM}</script></body></html>\n"
    )


def instrument(run: RunData) -> list[str]:
    """All of the page that is about one instrument."""
    return [
        cards(key_figures(run)),
        breaches(run.breaches),
        "<h2>What happened</h2>",
        "<p class='note'>Drag over a chart of time to zoom into all of them, double click for the whole; with a chart"
        " chosen, + - and arrow keys do too.</p>",
        figure("Price and our fills (hollow: resting, filled: crossing)", plots.price(run)),
        figure("Position", plots.position(run)),
        figure("PnL after fees, marked to mid", plots.pnl(run)),
        by_span(run.told.get("spans", {})),
        counterfactual(run.told),
        "<h2>What it believed</h2>",
        figure("Size of the expected move against the cost of crossing", plots.edge_and_cost(run)),
        "<div class='two'>",
        figure("Forecast against what followed, by decile (in hindsight)", plots.realised(run)),
        figure("Why it acted, or did not", plots.reason_bars(run)),
        "</div>",
        expected_and_realised(run.told.get("by_kind", {})),
        "<h2>Alpha after fees</h2>",
        alphas(run),
        "<h2>Orders and speed</h2>",
        "<div class='two'>",
        table(("sent for", "orders and cancels"), sorted(run.orders.items(), key=lambda item: -item[1])),
        figure("Event to decision", plots.latency(run)),
        "</div>",
    ]


def instruments(runs: Sequence[RunData]) -> str:
    """The instruments side by side, and what they came to together in each currency."""
    rows, sums = [], dict[str, float]()
    for run in runs:
        money, currency = _money(run)
        if currency:
            sums[currency] = sums.get(currency, 0.0) + money * run.pnl_ticks
        rows.append(
            (
                run.instrument,
                f"{len(run.fills['ts']):,}",
                f"{run.position:+,}",
                f"{run.pnl_ticks:+,.1f}",
                f"{money * run.pnl_ticks:+,.2f} {currency}" if currency else "not known",
            )
        )
    together = [("together", "", "", "", f"{total:+,.2f} {currency}") for currency, total in sums.items()]
    heads = ("instrument", "fills", "position", "PnL after fees, ticks", "in money")
    return table(heads, [*rows, *together]) + (
        "<p class='note'>Ticks of two instruments are not worth the same: only money adds up.</p>"
    )


def run_figures(run: RunData) -> dict[str, str]:
    """The figures of the whole run."""
    s = run.summary
    figures = {}
    if "rows" in s:
        figures["rows read"] = f"{s['rows']:,}"
    elif "events" in s:
        figures["events"] = f"{s['events']:,}"
    if "total_us" in s:
        figures["p99 total"] = f"{s['total_us']['p99']:.2f} us"
    if s:
        figures["halted"] = "yes" if s["halted"] else "no"
    return figures


def key_figures(run: RunData) -> dict[str, str]:
    """The figures of an instrument."""
    decided = actions(run.rows)
    money, currency = _money(run)
    figures = {
        "decisions": f"{len(run.rows):,}",
        "not hold": f"{len(run.rows) - decided.get('hold', 0):,}",
        "fills": f"{len(run.fills['ts']):,}",
        "lots traded": f"{int(run.fills['qty'].sum()):,}",
        "PnL after fees, ticks": f"{run.pnl_ticks:+,.1f}",
        f"PnL after fees, {currency}": f"{money * run.pnl_ticks:+,.2f}",
        "fees, ticks": f"{float(run.fills['fee'].sum()):,.1f}",
        "final position": f"{run.position:+,}",
    }
    if not currency:
        del figures["PnL after fees, "]
    if run.to_close_ticks:
        figures["to close it, ticks"] = f"{-run.to_close_ticks:,.1f}"
    return figures


def _money(run: RunData) -> tuple[float, str]:
    """What a tick of one lot is worth, and in which currency; 0 and "" where it is not known."""
    return (0.0, "") if run.facts is None else money_of(run.facts)


def counterfactual(summary: Mapping[str, Any]) -> str:
    """How much of the fills nobody could react to; nothing where it is not known."""
    share = summary.get("counterfactual_share")
    if share is None or not summary["fills"]:
        return ""
    return (
        f"<p class='note'>Counterfactual share {share:.0%}: so much of what filled at rest came from orders that did"
        " something else in the recording. Nobody there reacts to us: such fills are optimistic.</p>"
    )


def cards(figures: Mapping[str, str]) -> str:
    """A row of figures."""
    body = "".join(
        f"<div class='card'><b>{escape(v)}</b><span>{escape(k)}</span></div>" for k, v in figures.items()
    )
    return f"<div class='cards'>{body}</div>"


def figure(caption: str, svg: str) -> str:
    """A plot with its caption."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def breaches(texts: Sequence[str]) -> str:
    """Limits that were passed, where there were any."""
    return "".join(f"<p class='bad'>Risk breach: {escape(text)}</p>" for text in texts)


def expected_and_realised(by_kind: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """What lots were believed to bring and brought, by the order that opened them; nothing where none was opened."""
    rows = [
        (
            f"{question} {name}",
            f"{one['opened_lots']:,}",
            f"{one['closed_lots']:,.0f}",
            *("-" if one[side] is None else f"{one[side]:+.2f}" for side in ("expected", "realised")),
            _bounds(one.get("missed_interval")),
        )
        for question, kinds in by_kind.items()
        for name, one in kinds.items()
    ]
    if not rows:
        return ""
    heads = (
        "opened by",
        "lots",
        "closed",
        "expected, ticks a lot",
        "realised, ticks a lot",
        "realised less expected",
    )
    return table(heads, rows) + (
        "<p class='note'>Intervals over round trips; those of one question hold together with 95 %.</p>"
    )


def _bounds(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"


def by_span(spans: Mapping[str, Mapping[str, Any]]) -> str:
    """What came where the model was trained, calibrated, and where it never looked; nothing where that is not known."""
    if not spans:
        return ""
    rows = [
        (name, f"{sums['events']:,}", f"{sums['pnl_ticks']:+,.1f}", f"{sums['fills']:,}")
        for name in (TRAINED, CALIBRATED, UNSEEN, NOT_KNOWN)
        if name in spans
        for sums in [spans[name]]
    ]
    if NOT_KNOWN in spans:
        return table(("the model was there", "events", "PnL after fees, ticks", "fills"), rows) + (
            "<p class='note'>Not known: this model does not say what it was trained on (trained_on). What it earned "
            "there says nothing of what it may earn.</p>"
        )
    return table(("the model was there", "events", "PnL after fees, ticks", "fills"), rows) + (
        "<p class='note'>Shaded above: darker where the model was trained, lighter where it was calibrated. Only what "
        "it never saw says what it may earn.</p>"
    )


def alphas(run: RunData) -> str:
    """Alpha per unit traded, resting and crossing fills apart."""
    if not len(run.fills["ts"]):
        return "<p class='note'>No fills.</p>"

    def shown(value: Any) -> str:
        return "-" if value is None else f"{value:+.3f}"

    rows = [
        (
            f"{row['fills_by']}, {row['horizon']}",
            f"{row['fills']:,}",
            shown(row["alpha_bps"]),
            f"[{shown(row['low'])}, {shown(row['high'])}]",
        )
        for row in alpha_table(run)
    ]
    return table(("fills, horizon", "fills", "alpha, bps per unit", "95 % interval"), rows) + (
        "<p class='note'>Mark to mid at the horizon after the fill, against the price paid, less fees; interval by "
        "bootstrap over stretches of consecutive fills.</p>"
    )


def kept_out(summary: Mapping[str, Any]) -> Mapping[str, int]:
    """Rows that did not reach an engine as themselves, by reason; those of `emp run` stand by instrument."""
    if "quarantined" in summary:
        return dict(summary["quarantined"])
    drops = [one.get("drops", {}) for one in summary.get("instruments", {}).values()]
    return {
        reason: sum(one.get(reason, 0) for one in drops) for reason in sorted({r for d in drops for r in d})
    }


def quarantine(counts: Mapping[str, int]) -> str:
    """Rows kept out of perception, by reason."""
    if not counts:
        return "<p class='note'>No row was quarantined.</p>"
    return "<h2>Quarantined rows</h2>" + table(("reason", "rows"), [(k, f"{v:,}") for k, v in counts.items()])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in a box."""
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<div class='box'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
