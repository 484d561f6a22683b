"""What outlives every run of one account at one venue: who trades it, and what the next run must not forget.

    folder/NAME.lock   held while an engine trades the account: only one on this machine, whatever folder or port it has
    folder/NAME.json   the newest run, and per instrument what loss limits and halts rest on

A run that is sealed takes its day's loss, its drawdown and its halts into the account's next run, and a run whose
folder is gone is missed. The folder is that of the user's state: `EMP_STATE`, else XDG_STATE_HOME/emp, else
~/.local/state/emp.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from emp.core.disk import disk, make_folders
from emp.core.errors import JournalError, UsageError
from emp.core.platform import home, lock
from emp.journal.files import refuse_dangling, write_atomically
from emp.journal.records import Scalar


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A fill that was told of an order which is none of ours, and that the venue has not borne out yet."""

    order: str  # its id
    side: int
    qty: int  # lots that this report added
    px: int  # ticks
    fee: float  # ticks times lots
    ts: int
    filled: int  # lots of the order in all


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument of an account at the end of a run. Money in ticks times lots, at the newest mid."""

    position: int = 0  # lots, signed
    value: float = 0.0  # of the position
    day: int = 0  # trading day's number, 0 before the first mark
    day_pnl: float = 0.0  # since that day's first mark
    drawdown: float = 0.0  # pnl less its peak, at most 0
    halted: str = ""  # name of the reason for which nobody has let it trade again; "" where it may
    failed: str = ""  # hashes of models that have failed and that nobody has let open again, blanks between
    earned: dict[str, Scalar] = {}  # what outcomes allow (`emp.engine.earned`); empty: nothing is known
    claims: list[Claimed] = []  # in order
    price: float = 0.0  # ticks: the newest mid that was seen; 0: none is known
    price_ns: int = 0  # when that was, ns UTC
    tick: float = 0.0  # what all of this is counted in; 0: not told, by an older release
    lot: float = 0.0
    point_value: float = 0.0


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an account."""

    run: str = ""
    folder: str = ""  # of the newest run
    open: bool = False  # whether that run has not ended in order
    token: int = 0  # the highest under which an engine of this machine has traded it (`emp.engine.lease`)
    instruments: dict[str, Carried] = {}


class AccountFile:
    """Holds the lock of an account, reads and writes its state. Used by one thread."""

    def __init__(
        self, account: Mapping[str, Any], folder: Path | None = None, written: Mapping[str, Any] | None = None
    ) -> None:
        """`account` says whose money it is: settings by name, None where they are not set. `written` are the same as
        they are spelt: by these an older release knew it, whose lock is taken too, and whose state goes on.

        Raises UsageError where another engine of this machine trades it, JournalError where the folder cannot be used,
        or where both spellings have a state of their own.
        """
        folder = folder or state_folder()
        names = dict.fromkeys(account_name(one) for one in (written or account, account))
        self.path = folder / f"{account_name(account)}.json"
        self.account = dict(account)
        self._words = " at ".join(str(account[key]) for key in ("account", "host") if account.get(key))
        self._written: AccountState | None = None
        self._locks: list[int] = []
        try:
            make_folders(folder, 0o700)
            for name in names:
                self._take(folder / f"{name}.lock")
            _adopt([folder / f"{name}.json" for name in names])
        except OSError as error:
            self.close()
            raise JournalError(
                f"cannot keep the account's state in {folder}: {error.strerror}; EMP_STATE names another folder"
            ) from error
        except (UsageError, JournalError):
            self.close()
            raise

    def _take(self, path: Path) -> None:
        """Take a lock, for as long as this is open; UsageError where somebody else has it."""
        self._locks.append(disk().open(path, os.O_RDWR | os.O_CREAT))
        try:
            lock(self._locks[-1])
        except OSError as error:
            held = os.pread(self._locks[-1], 4096, 0).decode(errors="replace")
            raise UsageError(
                f"account {self._words} is traded by another engine on this machine{held}: stop that one first"
            ) from error

    def say_who(self, run: Path, token: int = 0, names: Sequence[str] = ()) -> None:
        """Let whoever finds the lock taken read by which run, and under which token of a lease on which instruments."""
        words = f" (pid {os.getpid()}, {run}"
        words += f", lease token {token} on {','.join(names)})" if token else ")"
        for held in self._locks:
            with contextlib.suppress(OSError):
                os.ftruncate(held, 0)
                disk().pwrite(held, words.encode(errors="replace"), 0)

    def read(self) -> AccountState:
        """The state that was written last; an empty one where none ever was.

        Raises JournalError where it is damaged: loss limits would silently begin anew.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=AccountState)
        except FileNotFoundError:
            refuse_dangling(self.path)
            return AccountState()
        except OSError as error:
            raise JournalError(f"cannot read {self.path}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"{self.path} is damaged ({error}): remove it once you have looked at the account's loss of the day and"
                " its positions, which it would have carried over"
            ) from error

    def write(self, state: AccountState) -> None:
        """Replace the state, durably, where it has changed; JournalError where that cannot be done."""
        if state != self._written:
            write_atomically(self.path, msgspec.json.encode(state))
            self._written = state

    def close(self) -> None:
        """Let another engine have the account."""
        while self._locks:
            disk().close(self._locks.pop())


def account_name(account: Mapping[str, Any]) -> str:
    """By which an account is known in names of files and keys."""
    told = json.dumps(dict(account), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _adopt(files: Sequence[Path]) -> None:
    """Let the state that an account had by its first name be that of its last. Both of its locks must be held.

    Raises JournalError where it has one by each, and they differ: either may have today's loss and halts.
    """
    old, new = files[0], files[-1]
    if old == new:
        return
    for file in files:
        refuse_dangling(file)
    if not old.exists():
        return
    if new.exists() and old.read_bytes() != new.read_bytes():
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        raise JournalError(
            f"{old} and {new} both are the state of this account, by two spellings of its settings ({newest.name} was"
            " written last): move away the one whose loss of the day and halts are not to be carried over"
        )
    os.replace(old, new)


def lock_path(account: Mapping[str, Any]) -> Path:
    """Where an account's lock lies on this machine."""
    return state_folder() / f"{account_name(account)}.lock"


def known_token(account: Mapping[str, Any]) -> int:
    """The highest token under which this machine knows an account to have been traded; 0 where it knows none."""
    return known_state(account).token


def known_state(account: Mapping[str, Any]) -> AccountState:
    """What this machine knows of an account, without its lock; an empty state where that cannot be read."""
    try:
        written = (state_folder() / f"{account_name(account)}.json").read_bytes()
        return msgspec.json.decode(written, type=AccountState)
    except (OSError, msgspec.MsgspecError):
        return AccountState()


def state_folder(of: str = "accounts") -> Path:
    """Where accounts, or something else, are remembered; JournalError where this user has no home and nothing is
    named.
    """
    named = os.environ.get("EMP_STATE", "")
    if named:
        return Path(named) / of
    if state := os.environ.get("XDG_STATE_HOME", ""):
        return Path(state) / "emp" / of
    own = home()
    if own is None:
        raise JournalError(
            "the account's state cannot be kept: this user has no home folder; set EMP_STATE to a folder that stays"
        )
    return own / ".local" / "state" / "emp" / of
