"""How soon an input that becomes three times as large is named by the drift alarm, on recorded markets.

Each input of each market in turn is scaled from half of a trading day on, as a fault of the program would; the test
parts of the shipped recipe's series, and markets that the model was not trained on.
"""

import json
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from emp.core.records import Array
    from emp.observe.drift import Reference
    from emp.train.data.data import Series

app = typer.Typer()

SCALE = 3.0


class Day(NamedTuple):
    """A trading day of one market."""

    series: str
    trained: bool
    rows: "Array"  # float32[n, CORE]: core inputs past the burn-in
    reference: "Reference"
    day: int


@app.command()
def scaled(
    kind: Annotated[str, typer.Option(help="Artifact that serves: a folder or a shipped kind.")] = "linear",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Scale every input by three in the middle of recorded days, and count events until the drift alarm names it."""
    from emp.app.terminal.console import make_console
    from emp.app.terminal.progress import Work
    from emp.engine.choose import load_model
    from emp.train.data.recipe import NEW, SHIPPED, UNSEEN, recipe

    model, days = load_model(kind), list["Day"]()
    with Work("markets") as work:
        for series in recipe((*SHIPPED, *UNSEEN, *NEW)):
            work.report(series.name, 0.0)
            days += _days(model, series)
    result = [told(one) for one in days]
    console = make_console()
    for one in result:
        late = f"; not named: {', '.join(one['missed'])}" if one["missed"] else ""
        if one["undisturbed"]:
            found = f"other than in training without a fault: {', '.join(one['undisturbed'])}"
        else:
            found = f"named {one['found']} of {one['inputs']} inputs, after {one['median']} events (median;"
            found += f" {one['worst']} at worst){late}"
        console.print(f"{one['series']} day {one['day']}: {found}", highlight=False)
    if as_json:
        print(json.dumps({"scale": SCALE, "days": result}))


def _days(model: Any, series: "Series") -> list[Day]:
    """The days of the test part of a series."""
    import numpy as np

    from emp.engine.inputs import InputStream, reference_of
    from emp.engine.monitor import head_of
    from emp.model.artifact import trained_on
    from emp.observe.drift import BLOCK
    from emp.train.data.data import load_dataset
    from emp.train.judge.stretch import read_stretch

    manifest = model.artifact.manifest
    data = load_dataset(series, manifest.k_sigma)
    reference = reference_of(model.artifact, head_of(model.artifact, data.instrument))
    if reference is None:
        return []
    events = read_stretch(series, data.instrument, data.split.test_ns, 1 << 40)
    rows, ages = InputStream(data.instrument).take(events)
    warm = ages[:, 1] > manifest.warmup_events
    rows, ages = rows[warm], ages[warm]
    trained = data.instrument.name in trained_on(manifest)
    of_days = [(int(day), rows[ages[:, 2] == day]) for day in np.unique(ages[:, 2])]
    return [Day(series.name, trained, one, reference, day) for day, one in of_days if len(one) >= 4 * BLOCK]


def told(day: Day) -> dict[str, Any]:
    """How many of a day's inputs are named once they are scaled, after how many events; which are not."""
    import numpy as np

    from emp.perception.state import CORE_INPUTS

    delays: dict[str, int | None] = {}
    undisturbed = [CORE_INPUTS[j] for j in alarm(day, day.rows)[1]]
    half = len(day.rows) // 2
    for j, name in enumerate(CORE_INPUTS):
        if undisturbed or not np.abs(day.rows[half:, j]).max() > 0.0 or day.reference.size[j] == 0.0:
            continue  # nobody tells it, or it is nought: three times that is the same
        rows = day.rows.copy()
        rows[half:, j] *= SCALE
        at, named = alarm(day, rows)
        delays[name] = at - half if j in named else None
    found = sorted(one for one in delays.values() if one is not None)
    return {
        "series": day.series,
        "day": day.day,
        "trained": day.trained,
        "undisturbed": undisturbed,
        "inputs": len(delays),
        "found": len(found),
        "median": found[len(found) // 2] if found else None,
        "worst": found[-1] if found else None,
        "missed": [name for name, one in delays.items() if one is None],
    }


def alarm(day: Day, rows: "Array") -> tuple[int, tuple[int, ...]]:
    """Rows until the first alarm of a day, and the inputs that it names; all of them and none where there is none."""
    from emp.engine.monitor import BOUND, LEVEL
    from emp.observe.drift import DriftWatch

    watch, at = DriftWatch(day.reference, LEVEL, BOUND), 0
    while at < len(rows):
        end = min(at + watch.room, len(rows))
        look = watch.add(rows[at:end], day.day)
        at = end
        if look is not None and look.drifted:
            return at, look.drifted
    return at, ()
