"""What a world's runs have left on the disk, read as a stranger would."""

from typing import Protocol

import msgspec

from emp.app.chaos.again import differs_again
from emp.app.chaos.scene import Scene
from emp.core.codes import Reason
from emp.core.contracts import UNSENT, NewOrder, OrderUpdate, Replace
from emp.core.errors import EmpError
from emp.engine.journal_tap import journalled_rows
from emp.engine.rebuild import rebuild
from emp.execution.orders import OrderManager
from emp.journal.decisions import recorded_decisions
from emp.journal.reader import LedgerReader, is_blank
from emp.journal.run import RunFolder


class Told(Protocol):
    """Who hears of violations."""

    arrived: dict[str, int]
    unrecorded: set[str]

    def violated(self, check: str, what: str) -> None:
        """Something is not as it must be."""


def check_records(world: Scene, checks: Told) -> None:
    """Look at every run's ledger and action log."""
    for path in sorted((world.home / "runs").glob("live-*")):
        try:
            _check_run(world, checks, RunFolder(path))
        except EmpError as error:
            in_use = world.life is not None and path.name == f"live-{world.life.run}"
            if in_use or not world.befalls.flipped:  # else a file that was changed is found to be
                checks.violated("lost_record", f"{path.name}: {error}")


def _check_run(world: Scene, checks: Told, folder: RunFolder) -> None:
    if not folder.ledger.exists() or is_blank(folder.ledger):
        return
    ledger = LedgerReader(folder.ledger)
    try:
        run = ledger.meta("run")
        events = list(ledger.events())
        orders = [e.body for e in events if isinstance(e.body, NewOrder)]
        intents = {e.body.cl_ord_id for e in events if isinstance(e.body, NewOrder | Replace)}
        for name in checks.arrived:
            if name.startswith(run) and name not in intents | checks.unrecorded:
                checks.violated("unknown_order", name)
        rows = {int(seq) for seq in recorded_decisions(events)["seq"]}
        rows |= {int(seq) for seq in journalled_rows(folder)["seq"]}
        for one in orders:
            if one.reason is not Reason.KILL_SWITCH and one.decision_seq not in rows:
                checks.violated("row_of_order", f"{one.cl_ord_id} was decided by row {one.decision_seq}")
        unsent = [
            e.body for e in events if isinstance(e.body, OrderUpdate) and e.body.execID.startswith(UNSENT)
        ]
        if unsent and "slow_disk" not in world.befalls.counts:
            checks.violated("decided_late", f"{unsent[0].clOrdID}: {unsent[0].text}")
        names = list(folder.manifest["instruments"])
        states = [_state(ledger, names) for _ in range(2)]
        if states[0] != states[1]:
            checks.violated("recovery_twice", f"{run}: {states[0]} and {states[1]}")
        if difference := differs(ledger, names):
            checks.violated("checkpoint", f"{run}: {difference}")
        if world.plan.watched and (difference := differs_again(world, folder)):
            checks.violated("replayed", difference)
        life = world.life
        if life is not None and life.run == run and life.running is not None and not life.process.dead:
            manager = life.running.engine.orders
            knew = _known(manager, names)
            if knew != states[0]:
                checks.violated("recovery_twice", f"{run}: the engine knew {knew}, its ledger {states[0]}")
            if not life.said and not ledger.sealed:
                checks.violated("sealed", run)
    finally:
        ledger.close()


def differs(ledger: LedgerReader, names: list[str]) -> str:
    """Where a start from the newest checkpoint would know something else than one from all rows; "" where nowhere."""
    short, whole = (_everything(ledger, names, whole=one) for one in (False, True))
    found = [f"{key}: {short[key]}, all rows say {whole[key]}" for key in whole if short[key] != whole[key]]
    return "; ".join(found)


def _everything(ledger: LedgerReader, names: list[str], *, whole: bool) -> dict[str, object]:
    manager = OrderManager(names)
    rebuilt = rebuild(ledger, manager, whole=whole)
    return {
        "accounts": manager.accounts.tolist(),
        "working": manager.working.tolist(),
        "prices": list(manager.prices),
        "open": manager.open_orders(),
        "strangers": manager.strangers,
        **msgspec.structs.asdict(rebuilt),
        "financing": repr(rebuilt.financing.tolist()),  # what is not stated is NaN, which equals nothing
    }


def _state(ledger: LedgerReader, names: list[str]) -> tuple[object, ...]:
    manager = OrderManager(names)
    rebuild(ledger, manager)
    return _known(manager, names)


def _known(manager: OrderManager, names: list[str]) -> tuple[object, ...]:
    money = [
        (round(float(account["cash"]), 6), round(float(account["fees"]), 6), int(account["fills"]))
        for account in manager.accounts
    ]
    return ([manager.position(name) for name in names], money, len(manager.open_orders()))
