"""What came of a backtest."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from emp.app.library.market import stamps
from emp.app.report import plots
from emp.app.report.data import RunData, actions, reasons
from emp.app.report.page import write_page
from emp.core.errors import DataError, UsageError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.journal.action_schema import header, to_table


class Result:
    """Decisions, fills and figures of one backtest.

    Attributes:
        summary: the keys of `emp replay --json` where a recording was traded.
        rows: DECISION[n] (`emp.core.records`): every decision with its inputs.
    """

    def __init__(self, run: RunData, instrument: Instrument) -> None:
        self._run = run
        self.instrument = instrument
        self.summary: dict[str, Any] = run.told
        self.rows = run.rows

    def __repr__(self) -> str:
        return f"<Result {self._words}>"

    @property
    def _words(self) -> str:
        s = self.summary
        halted = f", halted by {s['halted_by']}" if s.get("halted_by") else ""
        return (
            f"{self.instrument.name}: {s['pnl_ticks']:+,.1f} ticks after fees of {s['fees']:,.1f},"
            f" {s['fills']:,} fills, position {s['final_position']:+d}{halted}"
        )

    def frame(self) -> pa.Table:
        """One row a decision: the action log, as `emp replay` writes it."""
        return _table(self.rows, self._run.manifest)

    def fills(self) -> pa.Table:
        """One row a fill: ts, side, px in ticks, qty in lots, fee in ticks, maker."""
        fills = self._run.fills
        return pa.table(
            {name: stamps(v) if name == "ts" else pa.array(np.asarray(v)) for name, v in fills.items()}
        )

    def reasons(self) -> dict[str, int]:
        """How often each reason was given, most frequent first."""
        return reasons(self.rows)

    def actions(self) -> dict[str, int]:
        """How often each action was decided."""
        return actions(self.rows)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Price with fills, position and PnL over time; written to `path` (png, svg, pdf) where one is given."""
        return _drawn([self._run], [self._words], path)

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it: the picture."""
        picture = io.BytesIO()
        self.plot().savefig(picture, format="png", dpi=80, metadata={"Software": None})
        return picture.getvalue()

    def page(self, path: str | Path) -> Path:
        """Write the page that `emp report` makes of a run: one file, readable offline."""
        out = Path(path)
        write_page([self._run], out)
        return out


class Results:
    """What came of a backtest of several instruments together; `results["GOOG"]` is what came of one.

    Attributes:
        summary: the keys of `emp replay --json`: what adds up, `account`, and each one's own in `instruments`; of a
            mapping of one name those of a replay of one.
    """

    def __init__(self, runs: Sequence[RunData], instruments: Sequence[Instrument]) -> None:
        self._runs = list(runs)
        self._of = {
            one.name: Result(run, one) for run in runs for one in instruments if one.name == run.instrument
        }
        self.instruments = tuple(instruments)
        self.summary: dict[str, Any] = runs[0].summary

    def __repr__(self) -> str:
        return f"<Results {'; '.join(one._words for one in self._of.values())}>"

    def __getitem__(self, name: str) -> Result:
        """What came of one instrument."""
        if name not in [one.name for one in self.instruments]:
            known = ", ".join(one.name for one in self.instruments)
            raise UsageError(f"results: {name} was not traded here; there are {known}")
        if name not in self._of:
            raise UsageError(f"results: nothing was decided in {name}")
        return self._of[name]

    @property
    def only(self) -> Result:
        """The result of the one instrument that there is."""
        return next(iter(self._of.values()))

    def frame(self) -> pa.Table:
        """One row a decision of any instrument, in the order of the action log; `instrument` names it."""
        rows = np.concatenate([run.rows for run in self._runs])
        return _table(rows[np.argsort(rows["ts"], kind="stable")], self._runs[0].manifest)

    def fills(self) -> pa.Table:
        """One row a fill, as `Result.fills`, with the name of its instrument before it."""
        parts = []
        for name, one in self._of.items():
            fills = one.fills()
            parts.append(fills.add_column(0, "instrument", pa.array([name] * len(fills), pa.string())))
        return pa.concat_tables(parts)

    def plot(self, path: str | Path | None = None) -> Figure:
        """As `Result.plot`, a column an instrument, with its name above it."""
        return _drawn(self._runs, [one._words for one in self._of.values()], path)

    def page(self, path: str | Path) -> Path:
        """Write the page that `emp report` makes of a run: one file, readable offline."""
        out = Path(path)
        write_page(self._runs, out)
        return out


def _table(rows: Array, manifest: Mapping[str, Any]) -> pa.Table:
    """DECISION rows [n] as a table; of several instruments `instrument` is the name."""
    names = manifest["instruments"]
    table = to_table(rows, header(names, manifest["model_hashes"]))
    if len(names) > 1:
        named = pa.array([names[i] for i in rows["instrument"].tolist()], pa.string())
        table = table.set_column(table.column_names.index("instrument"), "instrument", named)
    return table.set_column(table.column_names.index("ts"), "ts", stamps(rows["ts"]))


def _drawn(runs: Sequence[RunData], titles: Sequence[str], path: str | Path | None) -> Figure:
    """Price, position and PnL of each instrument, side by side."""
    wide = len(runs)
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.6 if wide == 1 else 7.0 * wide, 6.4), layout="constrained")
        axes = figure.subplots(3, wide, sharex="col", height_ratios=(3, 1, 2), squeeze=False)
        for (price, position, pnl), run, title in zip(axes.T, runs, titles, strict=True):
            plots.draw_price(run, price)
            plots.draw_position(run, position)
            plots.draw_pnl(run, pnl)
            if wide > 1:
                price.set_title(title, fontsize=9)
        if wide == 1:
            figure.suptitle(titles[0], fontsize=10)
        if path is not None:
            try:
                figure.savefig(path, dpi=150)
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: cannot be written: {error}") from error
    return figure
