"""What came of a backtest."""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from emp.app.library.market import stamps
from emp.app.report import plots
from emp.app.report.data import RunData, actions, reasons
from emp.app.report.page import render
from emp.core.errors import DataError
from emp.core.instrument import Instrument
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
        self.summary: dict[str, Any] = run.summary
        self.rows = run.rows

    def __repr__(self) -> str:
        s = self.summary
        halted = f", halted by {s['halted_by']}" if s.get("halted_by") else ""
        return (
            f"<Result {self.instrument.name}: {s['pnl_ticks']:+,.1f} ticks after fees of {s['fees']:,.1f},"
            f" {s['fills']:,} fills, position {s['final_position']:+d}{halted}>"
        )

    def frame(self) -> pa.Table:
        """One row a decision: the action log, as `emp replay` writes it."""
        head = header([self.instrument.name], self._run.manifest["model_hashes"])
        table = to_table(self.rows, head)
        return table.set_column(table.column_names.index("ts"), "ts", stamps(self.rows["ts"]))

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
        with mpl.rc_context(plots.STYLE):
            figure = Figure(figsize=(9.6, 6.4), layout="constrained")
            price, position, pnl = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 2))
            plots.draw_price(self._run, price)
            plots.draw_position(self._run, position)
            plots.draw_pnl(self._run, pnl)
            figure.suptitle(repr(self)[1:-1].removeprefix("Result "), fontsize=10)
            if path is not None:
                try:
                    figure.savefig(path, dpi=150)
                except (OSError, ValueError) as error:
                    raise DataError(f"{path}: cannot be written: {error}") from error
        return figure

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it: the picture."""
        picture = io.BytesIO()
        self.plot().savefig(picture, format="png", dpi=80, metadata={"Software": None})
        return picture.getvalue()

    def page(self, path: str | Path) -> Path:
        """Write the page that `emp report` makes of a run: one file, readable offline."""
        out = Path(path)
        try:
            out.write_text(render([self._run]), encoding="utf-8")
        except OSError as error:
            raise DataError(f"{out}: cannot be written: {error.strerror}") from error
        return out
