"""The exception tree. Whatever a user can cause is an `EmpError` and ends in one line.

    EmpError
    ├── ConfigError          a configuration file, variable or secret is wrong
    ├── DataError            a recording, fixture or data directory is wrong
    │   └── UnknownInstrumentError
    ├── ArtifactError        a model artifact is corrupt, tampered with or does not fit
    ├── VenueError           the other side refused or broke the protocol
    ├── JournalError         durability is lost: the engine must halt
    │   └── CorruptLedgerError   what a ledger holds was changed: nobody goes on with it
    ├── GovernanceError      evidence, a verdict or the registry is not what was signed, or does not allow it
    ├── PositionLeftError    a run has ended with a position or orders at the venue
    ├── LeaseError           another engine trades the account, or may do so
    ├── NotApprovedError     an order was to be sent that risk has not approved: the engine must halt
    └── UsageError           a command was called with values that cannot work

`emp.app.cli` prints `str(error)` and exits with `error.exit_code`; a stack trace is a bug.
"""


class EmpError(Exception):
    """Base of every error whose message is written for the user: one line, no stack trace."""

    exit_code = 2

    def __str__(self) -> str:
        """The message as one line, whatever the words of others in it are broken into."""
        return " ".join(part.strip() for part in super().__str__().splitlines() if part.strip())


class ConfigError(EmpError):
    """A configuration value is missing, unknown, of the wrong type or contradicts another."""


class DataError(EmpError):
    """A recording cannot be read: missing, empty, truncated, mislabelled or not what it claims."""

    exit_code = 3


class UnknownInstrumentError(DataError):
    """The catalogue has no such instrument; the message says how to add one."""


class ArtifactError(EmpError):
    """A model artifact is corrupt, tampered with, or made for another feature schema."""

    exit_code = 4


class VenueError(EmpError):
    """The venue refused, broke its protocol, or went away."""

    exit_code = 5


class JournalError(EmpError):
    """Durability is lost (disk full, failed sync, torn record): halt, flatten, refuse to trade."""

    exit_code = 6


class CorruptLedgerError(JournalError):
    """A row of a ledger does not follow from those before it, or a page of its file is none; `what` says which."""

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what


class PositionLeftError(EmpError):
    """A run has ended, and something of it is still open at the venue: somebody must know."""

    exit_code = 7


class NotApprovedError(EmpError):
    """An order was to be sent that risk has not approved: a defect, which halts and flattens before it leaves."""

    exit_code = 6


class GovernanceError(EmpError):
    """Evidence, a verdict or the registry is not what was signed, or does not allow what was asked."""

    exit_code = 9


class LeaseError(EmpError):
    """The lease on an account is lost, or was not had: another engine trades it, or may do so; nothing was closed."""

    exit_code = 10


class UsageError(EmpError):
    """A command was called with arguments that cannot work together."""
