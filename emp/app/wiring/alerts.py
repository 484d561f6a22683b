"""Who alerts go to, from the configuration and the secrets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from emp.core.clock import Clock
from emp.core.config.config import Alerts
from emp.core.config.secrets import Secret, load_secrets
from emp.core.errors import ConfigError, JournalError
from emp.journal.account_file import state_folder
from emp.observe.alert_sources import OfBoard, OfHeartbeat
from emp.observe.alerting import Alerting
from emp.observe.alerts import Alert
from emp.observe.board import Board
from emp.observe.heartbeat import Beat
from emp.observe.receivers import Email, Push, Receiver, Webhook

FILE = "alerts.jsonl"
"""What was said, in a run's folder."""


def receivers(config: Alerts, secrets: Mapping[str, Secret] | None = None) -> list[Receiver]:
    """Everyone who is to be told; ConfigError in one line where an address or a secret will not do."""
    secret = (load_secrets() if secrets is None else secrets).get
    found: list[Receiver] = []
    for field, make in (("webhook", Webhook), ("push", Push)):
        named: str | None = getattr(config, field)
        hidden = secret(f"EMP_ALERT_{field.upper()}_URL")
        if named is not None and hidden is not None:
            raise ConfigError(f"alerts.{field}: given twice: EMP_ALERT_{field.upper()}_URL says it as well")
        url = hidden.reveal() if hidden is not None else named
        if url is not None:
            found.append(make(url, secret(f"EMP_ALERT_{field.upper()}_TOKEN")))
    if config.email is not None and config.smtp_host is not None:
        found.append(
            Email(
                config.email,
                config.smtp_host,
                sender=config.smtp_from,
                port=config.smtp_port,
                encryption=config.smtp_encryption,
                user=secret("EMP_ALERT_SMTP_USERNAME"),
                password=secret("EMP_ALERT_SMTP_PASSWORD"),
            )
        )
    return found


@contextmanager
def telling(
    board: Board, told: Sequence[Receiver], clock: Clock, folder: Path, left: Callable[[], str]
) -> Iterator[None]:
    """Send alerts about a run while the block lasts, and at its end what it ended of and what is `left` open."""
    if not told:
        yield
        return
    alerting = Alerting(OfBoard(board, clock), told, clock, folder / FILE)
    alerting.start()
    last: list[Alert] = []
    try:
        yield
    except BaseException as error:
        words = str(error) or type(error).__name__
        last.append(Alert(name="ended", severity="critical", text=f"the run has ended: {words}"))
        raise
    finally:
        if left():
            last.append(Alert(name="position_left", severity="critical", text=left()))
        alerting.stop(last, over=not any(one.name == "ended" for one in last))


def watch_file(port: int) -> Path | None:
    """Where a watch keeps what it told, for the one after it; None where this user can keep nothing."""
    try:
        folder = state_folder("watch")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, JournalError):
        return None
    return folder / f"{port}.jsonl"


class TakingBack:
    """Takes back what an earlier watch told, once the engine is heard again; `end` it before telling anew."""

    def __init__(self, silent_s: float, told: Sequence[Receiver], clock: Clock, path: Path | None) -> None:
        self._silent_s, self._told, self._clock, self._path = silent_s, told, clock, path
        self._alerting: Alerting | None = None

    def heard(self, beat: Beat) -> None:
        """The engine lives: from the first beat on nothing of its silence holds."""
        if self._told and self._alerting is None:
            living = OfHeartbeat(beat, self._silent_s, lives=True)
            self._alerting = Alerting(living, self._told, self._clock, self._path)
            self._alerting.start()

    def end(self) -> None:
        """Look no more."""
        if self._alerting is not None:
            self._alerting.stop(over=False)
            self._alerting = None


@contextmanager
def telling_of_silence(
    last: Beat, silent_s: float, told: Sequence[Receiver], clock: Clock, path: Path | None = None
) -> Iterator[None]:
    """Tell that the engine of a heartbeat has fallen silent, while the block acts on it.

    It is told whatever an earlier watch told: an engine was heard since, and nobody may have heard of that.
    """
    if not told:
        yield
        return
    alerting = Alerting(OfHeartbeat(last, silent_s), told, clock, path)
    alerting.take_back()
    alerting.step(False)
    alerting.start()
    try:
        yield
    finally:
        alerting.stop(over=False)
