"""Whatever refuses a live start, what the account holds is closed and watched; and nothing is opened that way."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emp.app.terminal.closing import closing_words
from emp.app.wiring import closing_only
from emp.app.wiring.closing_only import models_to_start
from emp.app.wiring.governed import load_models
from emp.app.wiring.job import _summary
from emp.app.wiring.live import Running
from emp.app.wiring.rerun import verify_run
from emp.app.wiring.unfinished import account_of
from emp.core.clock import LiveClock
from emp.core.codes import OrderStatus, Reason
from emp.core.config.config import SystemConfig
from emp.core.contracts import NewOrder, OrderUpdate
from emp.core.errors import ConfigError, EmpError, GovernanceError, UsageError
from emp.engine.choose import load_model
from emp.engine.succession import Models
from emp.engine.watched_days import DAY_NS
from emp.governance import serve
from emp.governance.gates import read_gates
from emp.governance.registry import Registry
from emp.journal.account_file import AccountFile, AccountState, Carried
from tests.governance.conftest import runs
from tests.kit.models import buying_model
from tests.kit.promoted import promote

from .test_account import later, look, run, settings, trade, unseal
from .test_claims import Mute
from .world import BTC, Venue

engine = pytest.mark.usefixtures("compiled_engine")

Refuses = Callable[[Registry, pytest.MonkeyPatch], object]


def weeks_became_old(registry: Registry, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("emp.governance.paper.FRESH_DAYS", 0)


def evidence_is_gone(registry: Registry, _: pytest.MonkeyPatch) -> None:
    next((registry.home / "evidence").iterdir()).unlink()


def gates_were_edited(_: Registry, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(serve, "GATES_SHA256", "0" * 64)


def gates_are_no_gates(_: Registry, patch: pytest.MonkeyPatch) -> None:
    def unreadable() -> object:
        raise GovernanceError("gates.yaml: not a gates file")

    patch.setattr("emp.app.wiring.governed.read_gates", unreadable)
    assert read_gates is not unreadable


def registry_cannot_be_read(registry: Registry, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(registry.home)
    registry.home.write_bytes(b"no folder")


def registry_is_damaged(registry: Registry, _: pytest.MonkeyPatch) -> None:
    registry.audit.path.write_bytes(registry.audit.path.read_bytes()[:-9])


REFUSED: dict[str, Refuses] = {
    "weeks became old": weeks_became_old,
    "evidence is gone": evidence_is_gone,
    "gates were edited": gates_were_edited,
    "gates are no gates": gates_are_no_gates,
    "registry cannot be read": registry_cannot_be_read,
    "registry is gone": lambda registry, _: shutil.rmtree(registry.home),
    "registry is damaged": registry_is_damaged,
    "key is missing": lambda registry, _: (registry.home / "keys" / "trusted.json").unlink(),
    "model was retired": lambda registry, _: registry.rollback("it has lost"),
    "artifact is gone": lambda registry, _: shutil.rmtree(registry.folder(registry.standing().default)),
}


@pytest.fixture
def governed(tmp_path: Path) -> tuple[Registry, SystemConfig]:
    """A registry whose default may trade live, and the configuration of an account that it trades."""
    registry = Registry(tmp_path / "registry", LiveClock())
    for name in ("mamba2", "linear"):
        model = promote(registry, name)
    today = LiveClock().now_ns() // DAY_NS
    for one in runs(model, *range(today - 14, today), instrument=BTC.name):
        registry.store.add(one)
    config = settings(tmp_path / "runs")
    return registry, config.model_copy(
        update={"model": config.model.model_copy(update={"registry": registry.home})}
    )


def default(config: SystemConfig) -> SystemConfig:
    """The same, serving what the registry has promoted."""
    return config.model_copy(
        update={"model": type(config.model)(registry=config.model.registry, fallback_impl="none")}
    )


def orders(venue: Venue) -> list[NewOrder]:
    return [one for one in venue.commands if isinstance(one, NewOrder)]


async def closes(running: Running, venue: Venue) -> None:
    """Until it is flat; then whoever asks for more is refused, and nothing is opened though the market goes on."""
    for _ in range(6_000):
        venue.tick()
        await asyncio.sleep(0.01)
        if venue.position == 0:
            break
    assert venue.position == 0
    running.live.owner.control("resume", "operator")
    running.live.owner.reload()
    for action in ("resume", "reload"):
        with pytest.raises(UsageError, match="closes only"):
            running.live.owner.ask(action, "operator", "")  # type: ignore[arg-type]
    for _ in range(60):
        venue.tick()
        await asyncio.sleep(0.01)
    risk = running.engine.desk.risk
    assert risk["halted"].all()
    assert (risk["halt_reason"] == Reason.KILL_SWITCH).all()
    assert venue.position == 0
    assert all(one.side < 0 for one in orders(venue)), "it has opened something"
    assert any(why.startswith("closing only: ") for why in running.live._board.unhealthy())


async def closes_what_is_in_doubt(running: Running, venue: Venue) -> None:
    """Somebody's order is told of, and the venue does not say what is held: it is closed once the owner has looked."""
    assert isinstance(venue, Mute)
    venue.mute = True
    told = {"clOrdID": "by-hand", "execID": "h1", "filled": 797, "price": 100_000, "ts": 9, "side": -1}
    venue.sink.report(OrderUpdate(status=OrderStatus.PARTIALLY_FILLED, instrument=BTC.name, **told))
    await look(running, venue)
    assert venue.position == 3, "nothing is closed while it is in doubt"
    owner = running.live.owner
    with pytest.raises(UsageError, match="closes only"):
        owner.ask("reload", "operator", "")
    assert str(owner.ask("resume", "operator", "")).endswith("taken for what is held, BTCUSDT +3, and closed")
    await closes(running, venue)


def wants_to_buy(tmp_path: Path) -> Models:
    return Models(buying_model(tmp_path / "model"))


@engine
@pytest.mark.parametrize("how", REFUSED)
def test_an_unfinished_run_is_closed_whatever_refuses_its_start(
    how: str,
    governed: tuple[Registry, SystemConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry, config = governed
    config = default(config)
    assert not models_to_start(config).closing_only
    venue = Venue()
    first = run(config, venue, trade, wants_to_buy(tmp_path))
    assert venue.position > 0
    unseal(first)
    REFUSED[how](registry, monkeypatch)
    with pytest.raises(EmpError):
        load_models(config)
    models = models_to_start(config)
    assert models.closing_only
    again = run(config, later(venue, "p1-"), closes, models)
    assert again.folder.path == first.folder.path
    summary = _summary(again)
    assert summary["closing_only"] == models.closing_only
    assert any("closing only" in line for line in closing_words(summary))
    assert f"closing only: {models.closing_only}" in capsys.readouterr().err
    verify_run(again.folder, lambda *_: None)


@engine
def test_what_is_in_doubt_is_closed_on_the_owners_word(
    governed: tuple[Registry, SystemConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, config = governed
    held = AccountFile(account_of(config))
    held.write(AccountState(run="R", instruments={BTC.name: Carried(position=3)}))
    held.close()
    weeks_became_old(registry, monkeypatch)
    venue = Mute()
    venue.position = 3
    run(config, venue, closes_what_is_in_doubt, models_to_start(config))


@engine
def test_what_a_run_that_ended_in_order_has_left_is_closed_too(
    governed: tuple[Registry, SystemConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, config = governed
    venue = Venue()
    first = run(config, venue, trade, wants_to_buy(tmp_path))
    weeks_became_old(registry, monkeypatch)
    again = run(config, later(venue, "p1-"), closes, models_to_start(config))
    assert again.folder.path != first.folder.path
    with pytest.raises(GovernanceError, match="green days"):
        models_to_start(config)  # nothing is held any more


@engine
def test_the_next_start_that_is_allowed_stays_halted_until_the_owner_lets_it_trade(
    governed: tuple[Registry, SystemConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, config = governed
    venue = Venue()
    run(config, venue, trade, wants_to_buy(tmp_path))
    with monkeypatch.context() as patch:
        weeks_became_old(registry, patch)
        run(config, later(venue, "p1-"), closes, models_to_start(config))
    venue = later(Venue(), "p2-")

    async def resumes(running: Running, venue: Venue) -> None:
        await look(running, venue)
        assert running.engine.halted
        running.live.owner.control("resume", "operator")
        await look(running, venue)
        assert not running.engine.halted

    models = models_to_start(config)
    assert not models.closing_only
    run(config, venue, resumes, models)


@pytest.mark.parametrize("how", REFUSED)
def test_whatever_refuses_it_a_start_closes_only_where_something_is_held(
    how: str, governed: tuple[Registry, SystemConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, config = governed
    config = default(config)
    held = AccountFile(account_of(config))
    held.write(AccountState(run="R", instruments={BTC.name: Carried(position=3)}))
    held.close()
    assert not models_to_start(config).closing_only
    REFUSED[how](registry, monkeypatch)
    with pytest.raises(EmpError) as refused:
        load_models(config)
    assert models_to_start(config).closing_only == str(refused.value)
    held.write(AccountState(run="R", instruments={BTC.name: Carried()}))
    with pytest.raises(EmpError):
        models_to_start(config)


@pytest.mark.parametrize("how", ["weeks became old", "registry is gone"])
def test_where_nothing_is_held_the_start_is_refused_as_ever(
    how: str, governed: tuple[Registry, SystemConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, config = governed
    REFUSED[how](registry, monkeypatch)
    with pytest.raises(GovernanceError):
        models_to_start(config)


@engine
def test_under_a_lease_a_run_that_may_only_close_begins_only_where_something_is_held(
    governed: tuple[Registry, SystemConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another machine has left is known once the lease is."""
    registry, config = governed
    weeks_became_old(registry, monkeypatch)
    leased = config.model_copy(update={"lease": config.lease.model_copy(update={"redis": "redis://h"})})
    models = models_to_start(leased)
    assert models.closing_only
    with pytest.raises(GovernanceError, match="green days"):
        run(config, Venue(), look, models)
    assert not list(config.run_dir.glob("live-*"))


def test_on_paper_it_is_refused_as_ever(governed: tuple[Registry, SystemConfig]) -> None:
    registry, config = governed
    registry.audit.path.write_bytes(b"x")
    with pytest.raises(GovernanceError):
        models_to_start(config.model_copy(update={"mode": "paper"}))


@engine
def test_a_model_of_ones_own_in_the_configuration_leaves_no_position_alone(
    governed: tuple[Registry, SystemConfig], tmp_path: Path
) -> None:
    _, config = governed
    venue = Venue()
    unseal(run(config, venue, trade, wants_to_buy(tmp_path)))
    own = config.model_copy(
        update={"model": config.model.model_copy(update={"artifact": "my_model.py:Model"})}
    )
    with pytest.raises(ConfigError, match="model of your own"):
        load_models(own)
    assert "model of your own" in models_to_start(own).closing_only
    assert load_model("linear").artifact.hash == models_to_start(own).serving.artifact.hash
    assert closing_only.may_hold(own)
