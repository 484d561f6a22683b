"""Let a naive two-sided maker quote in zero-intelligence flow and in a calibrated flow."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.commands.sim.parts import Charged, Json, ProgressBar, show, standard_console

app = typer.Typer()


@app.command()
def maker(
    model: Annotated[str, typer.Option(help="goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Charged,
    sessions: Annotated[
        int, typer.Option(min=10, help="Sessions of 10,000 events, each with its seed.")
    ] = 1_000,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Let a naive two-sided maker quote in zero-intelligence flow and in a calibrated flow.

    It must earn where nobody knows anything, and lose or break even after fees where flow knows something.
    """
    import msgspec

    from emp.core.instrument import find
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.maker_study import study_maker

    facts = find(instrument)
    flows = {"zi": named_flow("zi"), Path(model).stem: named_flow(model)}
    with ProgressBar("sessions") as step:
        done = [
            study_maker(
                name,
                params,
                facts.maker_fee,
                facts.taker_fee,
                sessions,
                seed=seed,
                progress=lambda share, k=k: step((k + share) / len(flows)),  # type: ignore[misc]
            )
            for k, (name, params) in enumerate(flows.items())
        ]
    _show_makers(done, instrument)
    if as_json:
        print(
            json.dumps(
                {
                    "instrument": instrument,
                    "markets": [msgspec.to_builtins(m) | {"verdict": m.verdict} for m in done],
                }
            )
        )


def _show_makers(done: list[Any], instrument: str) -> None:
    from rich.table import Table

    from emp.sim.measure.maker_study import LEVEL

    fee = done[0].maker_fee
    out = Table(title=f"naive maker, ticks per lot ({LEVEL:.0%}); {instrument} maker fee {fee:g} ticks")
    horizons = list(done[0].markouts)
    out.add_column("market")
    for column in ("lots", "before fees", "after fees", *(f"markout {h} events" for h in horizons)):
        out.add_column(column, justify="right")
    out.add_column("after fees it")

    def known(x: Any) -> str:
        return f"{x.value:.3f} ({x.low:.3f} .. {x.high:.3f})"

    for m in done:
        marks = [known(m.markouts[h]) for h in horizons]
        out.add_row(m.market, str(m.lots), known(m.per_lot_before_fees), known(m.per_lot), *marks, m.verdict)
    show(standard_console(), out)
