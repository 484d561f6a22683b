"""Why a decision of a run was as it was: made again from its row, in plain words, with what would have changed it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.terminal.completion import RUNS

app = typer.Typer()


@app.command()
def explain(
    run: Annotated[str, typer.Argument(help="A run: its folder, name or id.", autocompletion=RUNS)],
    seq: Annotated[int, typer.Argument(help="seq of the event that was decided on; `emp why` lists them.")],
    instrument: Annotated[str | None, typer.Option(help="Where the run has several.")] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Say why a decision was as it was: made again from its row, in plain words, with what would have changed it."""
    from emp.app.wiring.explained import decided_at, rules_of_run
    from emp.app.wiring.why import find_folder, instrument_of_run
    from emp.core.codes import Reason
    from emp.core.errors import UsageError
    from emp.engine.explain import ANSWER, ELSEWHERE, NOT_DECIDED, decided_again
    from emp.engine.explain import explain as in_words

    folder = find_folder(run, runs)
    index = instrument_of_run(folder, instrument)
    name = folder.manifest["instruments"][index]
    row, rules = decided_at(folder, seq, index), rules_of_run(folder, name)
    own = folder.manifest["config"].get("rule") or folder.manifest.get("rule")
    if own and int(row["reason_code"]) in ELSEWHERE:
        who = (
            "the planner"
            if int(row["reason_code"]) == Reason.PLANNED
            else f"a rule of your own, {own['name']}"
        )
        raise UsageError(
            f"{folder.path}: event {seq} was decided by {who}: what it did cannot be made again from its row;"
            " `emp why` lists what it asked for"
        )
    lines = in_words(row, name, rules)
    for line in lines:
        typer.echo(line)
    if as_json:
        decided = int(row["reason_code"]) not in {int(r) for r in NOT_DECIDED}
        again = decided_again(row, rules) if decided else row
        fields = {field: row[field].tolist() for field in row.dtype.names}
        same = all(again[field] == row[field] for field in ANSWER)
        print(json.dumps({"row": fields, "same": same, "words": lines}))
