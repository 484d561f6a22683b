"""Whether what a world's runs have written down comes out again: decisions, and what watched the model found."""

from emp.app.chaos.scene import Scene
from emp.app.wiring.rerun import assemble_rerun, terms_by_event, verify_run
from emp.core.errors import EmpError, UsageError
from emp.engine.journal_tap import journalled_rows
from emp.engine.load import load_folder
from emp.engine.monitor_rerun import verify_monitor
from emp.journal.run import RunFolder

OF_THE_MODEL = frozenset({"nan_model", "slow_model"})
"""Faults after which a replay's model says something else than the run's."""


def differs_again(world: Scene, folder: RunFolder) -> str:
    """Where a replay of a run is another than the run; "" where nowhere, or it never traded."""
    try:
        if OF_THE_MODEL & world.befalls.counts.keys():
            rerun = assemble_rerun(folder)
            verify_monitor(
                folder,
                journalled_rows(folder),
                terms_by_event(rerun),
                lambda name: load_folder(folder.models / name),
            )
        else:
            verify_run(folder, lambda *_: None)
    except UsageError:
        return ""
    except EmpError as error:
        return str(error)
    return ""
