"""Wiring of `emp explain`: a row of a run, and the fees and limits under which it was decided."""

from typing import Any

import msgspec
import numpy as np

from emp.app.wiring.rerun import run_terms
from emp.core.errors import UsageError
from emp.engine.explain import Rules, rules_of
from emp.engine.journal_tap import journalled_rows
from emp.engine.limits import EngineLimits
from emp.journal.run import RunFolder, instruments_of


def rules_of_run(folder: RunFolder, name: str) -> Rules:
    """Fees and limits of an instrument in a run of a recording or of `emp run`, as they were when it began."""
    config = folder.manifest["config"]
    if "limits" in config:
        facts = next(one for one in instruments_of(folder.manifest) if one.name == name)
        return rules_of(facts, msgspec.convert(config["limits"], EngineLimits))
    terms = run_terms(folder)
    return rules_of(next(one for one in terms.instruments if one.name == name), terms.limits)


def decided_at(folder: RunFolder, seq: int, instrument: int) -> Any:
    """The DECISION row of an event; UsageError names the nearest where there is none."""
    rows = journalled_rows(folder)
    rows = rows[rows["instrument"] == instrument]
    found = rows[rows["seq"] == seq]
    if len(found):
        return found[-1]
    if not len(rows):
        raise UsageError(f"{folder.path} has no decision of that instrument")
    near = rows["seq"][np.abs(rows["seq"] - seq).argmin()]
    raise UsageError(f"{folder.path} has no decision at seq {seq}; the nearest is at {near}")
