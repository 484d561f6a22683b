"""Let a simulated market run and write what it shows."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.commands.sim.parts import Json, Model, ProgressBar, say
from emp.app.terminal.completion import INSTRUMENTS

app = typer.Typer()


@app.command()
def generate(
    out: Annotated[
        Path,
        typer.Argument(
            help="Parquet file to write EVENT rows to, or a LOBSTER message file like XYZ_2024-01-02_message_10.csv,"
            " which gets its orderbook file beside it."
        ),
    ],
    model: Model = "zi",
    events: Annotated[int, typer.Option(min=1, help="How many events.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    start_px: Annotated[int, typer.Option(min=1000, help="First mid price, in ticks.")] = 100_000,
    instrument: Annotated[
        str | None,
        typer.Option(
            help="Write a recording of this instrument, within its hours, for `emp replay`.",
            autocompletion=INSTRUMENTS,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let a simulated market run and write what it shows."""
    import hashlib

    if out.suffix == ".csv":
        result = _generate_lobster(out, model, events, seed, start_px, instrument)
        if as_json:
            print(json.dumps(result))
        return
    if instrument is not None:
        from emp.app.library.market import simulate

        recorded = simulate(model, instrument, events=events, seed=seed, start_px=start_px)
        recorded.save(out)
        say(f"{events} events of {instrument} -> {out}")
        if as_json:
            print(json.dumps({"model": model, "events": events, "seed": seed, "instrument": instrument}))
        return
    from emp.core.records import empty_events
    from emp.sim.book.check import check_book
    from emp.sim.flow.shipped import named_flow
    from emp.sim.world.market import Market

    market = Market(named_flow(model), seed, start_px)
    rows = empty_events(events)
    with ProgressBar("events") as step:
        done = 0
        while done < events:
            done += market.run(2**62, min(50_000, events - done), rows=rows[done : done + 50_000])
            step(done / events)
    check_book(market.book)
    _write_rows(rows, out)
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    result = {
        "model": model,
        "events": events,
        "seed": seed,
        "seconds_simulated": round((market.now_ns) / 1e9, 3),
        "sha256": digest,
        "file": str(out),
    }
    say(f"{events} events, {result['seconds_simulated']} simulated seconds, sha256 {digest[:16]} -> {out}")
    if as_json:
        print(json.dumps(result))


def _generate_lobster(
    out: Path, model: str, events: int, seed: int, start_px: int, instrument: str | None
) -> dict[str, Any]:
    """Write a pair of LOBSTER files of `events` messages, from half past nine in New York on."""
    from emp.core.errors import UsageError
    from emp.sim.flow.shipped import named_flow
    from emp.sim.tape.lobster_files import opening_ns, save_lobster
    from emp.sim.world.market import Market
    from emp.sim.world.printed import printed

    if instrument is not None:
        raise UsageError("LOBSTER files name no instrument: leave out --instrument, or write .parquet")
    market = Market(named_flow(model), seed, start_px, start_ns=opening_ns(out))
    made = printed(market, events, Path(model).stem)
    book = save_lobster(made, out)
    seconds = round(int(made.msgs["ts"][-1] - made.msgs["ts"][0]) / 1e9, 3)
    say(f"{events} messages, {seconds} simulated seconds -> {out}, {book}")
    return {
        "model": model,
        "events": events,
        "seed": seed,
        "seconds_simulated": seconds,
        "file": str(out),
        "orderbook": str(book),
    }


def _write_rows(rows: Any, out: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {}
    for name in rows.dtype.names:
        column = rows[name]
        if column.ndim == 1:
            columns[name] = pa.array(column)
        else:
            flat = pa.array(column.reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        parquet.write_table(pa.table(columns), file)
