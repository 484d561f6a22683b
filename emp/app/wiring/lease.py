"""Wiring of the lease: wait for it before anything is opened, and begin with what the holder before has left."""

import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from emp.app.wiring.unfinished import account_of, written_account_of
from emp.core.clock import LeaseClock
from emp.core.config.config import SystemConfig
from emp.core.errors import LeaseError, UsageError
from emp.core.platform import say
from emp.engine.lease import Lease, LeaseTerms
from emp.engine.lease_keeper import LeaseKeeper
from emp.journal.account_file import AccountFile, AccountState, account_name, known_token, lock_path
from emp.journal.lease.left import Left, decode_left
from emp.journal.lease.port import LeaseStore
from emp.journal.ledger import Ledger
from emp.journal.records import Note
from emp.journal.run import RunFolder
from emp.observe.board import Board
from emp.observe.lease_view import LeaseView

SUPERSEDED = "superseded"
"""Kind of the ledger's note that another run has taken the account over from this one."""

UNKNOWN_DAY = "lease_left_nothing"
"""Reason of the halt where nobody knows what the account has lost today."""

_EVICTS_S: Final = 10.0
_S: Final = 1_000_000_000

_log = structlog.get_logger(__name__)


def stand_by(config: SystemConfig, board: Board) -> LeaseKeeper | None:
    """Wait until this process has the lease on the account's instruments; None where the configuration names none.

    Says on stderr, in `/health` and `/metrics` what is waited for. LeaseError where `lease.wait` is false and another
    engine is heard of, or Redis is not, for two terms.
    """
    section = config.lease
    if section.redis is None:
        return None
    term_ns = int(section.term_s * _S)
    margin_ns = term_ns // 10 if section.margin_s is None else int(section.margin_s * _S)
    account, clock = account_of(config), LeaseClock()
    store = open_store(config)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    lease = Lease(
        store,
        config.instruments.names,
        holder,
        LeaseTerms(term_ns, margin_ns, term_ns // 3),
        clock,
        max(known_token(account), known_token(written_account_of(config))),
    )
    board.lease = lambda: LeaseView(held=False)
    began, said = clock.monotonic_ns(), ""
    while not lease.try_take():
        board.raise_alarm("lease", f"standing by: {lease.waits_for}")
        kind = lease.waits_for.partition(":")[0]
        if kind != said:
            said = kind
            say(f"emp: standing by: {lease.waits_for}")
        if not section.wait and clock.monotonic_ns() - began > 2.2 * term_ns:
            lease.close()
            raise LeaseError(f"lease.wait is false, and the lease is not to be had: {lease.waits_for}")
        time.sleep(min(0.1, section.term_s / 50))
    board.clear_alarm("lease")
    say(f"emp: has the lease on the account, token {lease.token}")
    keeper = LeaseKeeper(lease, clock, board)
    keeper.start()
    return keeper


def open_store(config: SystemConfig) -> LeaseStore:
    """Where the leases on the configuration's account are kept; StoreError where its address is none."""
    from emp.journal.lease.redis_store import RedisStore  # an extra, which who has no lease need not have

    section = config.lease
    return RedisStore(section.redis or "", account_name(_leased(account_of(config))), section.term_s / 6)


def _leased(account: Mapping[str, Any]) -> dict[str, Any]:
    """By what an account is known to its leases: two sessions of one account are still one account."""
    ways = ("sender_comp_id", "target_comp_id") if account.get("account") else ()
    return {name: value for name, value in account.items() if name not in ways}


def open_account(
    account: Mapping[str, Any], keeper: LeaseKeeper | None, written: Mapping[str, Any] | None = None
) -> AccountFile:
    """The account's lock and file, `written` as in `AccountFile`. A process of this machine that held the lease before
    and still has the lock (it is paused, or hangs) is ended first: it may do nothing any more, and two may not write
    one ledger.

    Raises UsageError where somebody else has the lock.
    """
    if keeper is None:
        return AccountFile(account, written=written)
    _evict(lock_path(account), keeper.token, frozenset(keeper.left))
    end = time.monotonic() + _EVICTS_S
    while True:
        try:
            return AccountFile(account, written=written)
        except UsageError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _evict(lock: Path, token: int, names: frozenset[str]) -> None:
    """End a process that has the lock under an earlier token, and had no other instruments than these, as the lock and
    /proc say: all that it may have traded is ours now.
    """
    try:
        words = lock.read_text(errors="replace")
        pid = int(words.split("(pid ", 1)[1].partition(",")[0])
        lease = words.rsplit("lease token ", 1)[1].partition(")")[0]
        theirs, held = int(lease.partition(" on ")[0]), lease.partition(" on ")[2].split(",")
        if theirs >= token or pid == os.getpid() or not names.issuperset(held):
            return
        if not any(os.path.samefile(one, lock) for one in _open_files(pid)):
            return
        os.kill(pid, signal.SIGKILL)
    except (OSError, IndexError, ValueError):
        return
    say(
        f"emp: ended pid {pid}, which held the lease before (token {theirs}) and still had the account's lock"
    )


def _open_files(pid: int) -> list[Path]:
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if one.exists():
                found.append(one)
    return found


def succeed(
    keeper: LeaseKeeper, continued: RunFolder | None, state: AccountState
) -> tuple[RunFolder | None, AccountState, list[str]]:
    """From what the lease's holder before has left: the run that goes on (None: a new one begins), what is known of the
    account, and the instruments of which nobody knows what they have lost today.

    A run of this machine goes on where nobody has traded the account after it. Else it is closed for good, and the new
    one begins with the successor's figures, as with those of any run of the account before it.
    """
    left = {name: decode_left(text) for name, text in keeper.left.items()}
    unknown = [name for name, one in left.items() if one is None]
    others = {name: one for name, one in left.items() if one is not None}
    run = None if continued is None else str(continued.manifest["run"])
    if continued is not None and (not others or all(one.run == run for one in others.values())):
        return continued, state, unknown
    if continued is not None:
        _supersede(continued, others, keeper.token)
    instruments = {**state.instruments, **{name: one.carried for name, one in others.items()}}
    by = next(iter(others.values())).run if others else state.run
    if not others:
        return None, state, unknown
    return None, AccountState(run=by, open=False, instruments=instruments, token=state.token), unknown


def _supersede(folder: RunFolder, left: Mapping[str, Left], token: int) -> None:
    """Close a run's ledger for good: the account has been traded by another engine since."""
    by = ", ".join(sorted({one.run for one in left.values()}))
    ledger = Ledger(folder.ledger, run=folder.manifest["run"], mode=folder.manifest["mode"])
    try:
        ledger.record_note(
            Note(kind=SUPERSEDED, ts=time.time_ns(), data={"by": by, "token": token}),
        )
        ledger.seal()
    finally:
        ledger.close()
    say(f"emp: run {folder.manifest['run']} does not go on: run {by} has traded the account since")


def halt_unknown(unknown: list[str], halt: Callable[[str, str], None]) -> None:
    """Halt instruments of which nobody knows what they have lost today, until the owner lets them trade."""
    for name in unknown:
        halt(UNKNOWN_DAY, name)
    if unknown:
        say(
            f"emp: the lease says nothing of what {', '.join(unknown)} lost today: halted until `emp resume`, as at the"
            " account's very first start under a lease"
        )
