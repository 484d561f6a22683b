"""`emp doctor --connect` at venues that are sound, and at ones that refuse in each way that stands before trading."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from emp.access.ctrader.enums import AccessRights, ClientPermissionScope, CommissionType
from emp.access.ctrader.parts import ProtoOAInterval
from emp.access.fix.dialect import CTRADER, PLAIN
from emp.app import connection
from emp.app.cli import main
from emp.app.connection import examine_connection
from emp.app.doctor import Finding
from emp.core.clock import LiveClock
from emp.core.config.secrets import Secret
from emp.core.instrument import find
from emp.sim.venues.ctrader.venue import CTraderVenue
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from tests.fix.markets import Toy
from tests.fix.scripted import ScriptedVenue
from tests.fix.test_quickfix import Peer, free_port
from tests.kit.handmarket import Moving
from tests.kit.hosted import Hosted, hosting
from tests.kit.orders import new_order
from tests.kit.tls import server_tls

pytestmark = pytest.mark.usefixtures("compiled_feeds")

S = 1_000_000_000
PASSWORD = "hunter2-and-more"
CATALOGUE = {
    "calendars": {"always": {"sessions": [{"session": "ny", "start": "00:00", "end": "00:00", "days": [
        "mon", "tue", "wed", "thu", "fri", "sat", "sun"]}]}},
    "instruments": {name: {"calendar": "always"} for name in ("EURUSD", "GBPUSD")},
}  # fmt: skip


class Shifted(LiveClock):
    """The clock of a machine that is wrong, or of another day of the week."""

    def __init__(self, by_ns: int) -> None:
        self._by_ns = by_ns

    def now_ns(self) -> int:
        return super().now_ns() + self._by_ns


def to_wednesday() -> int:
    """By how much to shift a clock so that it is a Wednesday: venues have weekends."""
    days = LiveClock().now_ns() // (86_400 * S)
    return -((days + 4) % 7 - 3) * 86_400 * S


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [
        n for n in os.environ if n.startswith("EMP_") and n not in ("EMP_DATA", "EMP_CACHE", "EMP_STATE")
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EMP_FIX_USERNAME", "trader")
    monkeypatch.setenv("EMP_FIX_PASSWORD", PASSWORD)
    monkeypatch.setattr(connection, "WATCH_S", 0.7)
    monkeypatch.setattr(connection, "ANSWER_S", 2.0)
    (tmp_path / "catalogue.yaml").write_text(yaml.safe_dump(CATALOGUE))


@pytest.fixture
def host() -> Iterator[Hosted]:
    with hosting() as hosted:
        yield hosted


def catalogue(folder: Path, **facts: Any) -> None:
    """Change what our catalogue says of EURUSD."""
    mine = json.loads(json.dumps(CATALOGUE))
    mine["instruments"]["EURUSD"] |= facts
    (folder / "catalogue.yaml").write_text(yaml.safe_dump(mine))


def written(folder: Path, access: Mapping[str, Any], mode: str = "live", names: tuple[str, ...] = ()) -> Path:
    path = folder / "emp.yaml"
    config = {
        "mode": mode,
        "run_dir": str(folder / "runs"),
        "instruments": {"names": list(names) or ["EURUSD"], "catalogue": str(folder / "catalogue.yaml")},
        "access": access,
    }
    path.write_text(yaml.safe_dump(config))
    return path


def over_fix(port: int, **more: Any) -> dict[str, Any]:
    return {
        "connection_protocol": "fix", "host": "127.0.0.1", "port": port, "tls": False, "dialect": "mock",
        "sender_comp_id": "EMP", "target_comp_id": "EMPVENUE", **more,
    }  # fmt: skip


def found(path: Path, clock: LiveClock | None = None) -> list[Finding]:
    return list(examine_connection(path, clock))


def bad(findings: list[Finding]) -> dict[str, str]:
    return {one.what: one.found for one in findings if one.verdict == "bad"}


def said(findings: list[Finding], what: str) -> Finding:
    return next(one for one in findings if one.what == what)


# --- over FIX --------------------------------------------------------------------------------------------------


class FixHouse:
    """A FIX venue in a thread, and what it was sent."""

    def __init__(self, host: Hosted, names: tuple[str, ...] = ("EURUSD",), **venue: Any) -> None:
        clock = venue.pop("clock", None)
        instruments = [find(name) for name in names]
        self.host = host
        self.toy = Toy(instruments)
        settings = VenueSettings(**{"password": Secret(PASSWORD), **venue})

        async def start() -> int:
            self.venue = FixVenue(self.toy, instruments, settings, clock=clock)
            return await self.venue.start()

        self.port = host.do(start())

    def close(self) -> None:
        self.host.do(self.venue.close())


@pytest.fixture
def fix(host: Hosted) -> Iterator[FixHouse]:
    house = FixHouse(host)
    yield house
    house.close()


def test_a_sound_venue_has_nothing_in_the_way(fix: FixHouse, tmp_path: Path) -> None:
    findings = found(written(tmp_path, over_fix(fix.port)))
    assert bad(findings) == {}
    assert said(findings, "session").found.startswith(f"127.0.0.1:{fix.port}: logged on in")
    assert said(findings, "EURUSD symbol").found == "EURUSD"
    assert said(findings, "EURUSD lot").found == "1000 in the catalogue; the venue trades in steps of 1000"
    assert said(findings, "EURUSD depth").found == "3 levels a side"
    assert "spread 2 ticks" in said(findings, "EURUSD quotes").found
    assert said(findings, "open orders").found == "none"
    assert said(findings, "positions").found == "none"
    for what in ("tick", "commission", "hours", "swap"):
        one = said(findings, f"EURUSD {what}")
        assert (one.verdict, one.found) == ("silent", "not reported by FIX 4.4 here")
    assert said(findings, "clock").verdict == "ok"
    assert said(findings, "round trip").found.endswith(" ms")
    assert fix.toy.orders == {}


def test_the_command_ends_with_its_verdict(
    fix: FixHouse, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, over_fix(fix.port))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--connect", str(path), "--json"])
    out = capsys.readouterr().out
    assert (ended.value.code, json.loads(out.splitlines()[-1])["ok"]) == (0, True)
    monkeypatch.setenv("EMP_FIX_PASSWORD", "something else")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--connect", str(path), "--json"])
    out, err = capsys.readouterr()
    assert (ended.value.code, json.loads(out.splitlines()[-1])["bad"]) == (1, ["session"])
    assert "in the way of trading: session" in out + err
    assert "something else" not in out + err


def test_a_wrong_password_in_the_peers_words(fix: FixHouse, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("EMP_FIX_PASSWORD", "wrong")
    findings = found(written(tmp_path, over_fix(fix.port)))
    assert bad(findings) == {
        "session": f"127.0.0.1:{fix.port}: the peer refused the logon: invalid credentials"
    }
    assert "password" in said(findings, "session").fix


def test_one_unknown_symbol_beside_a_known_one(fix: FixHouse, tmp_path: Path) -> None:
    findings = found(written(tmp_path, over_fix(fix.port), names=("EURUSD", "GBPUSD")))
    assert bad(findings) == {"GBPUSD quotes": "refused: unknown symbol GBPUSD"}
    assert "spread 2 ticks" in said(findings, "EURUSD quotes").found


def test_no_market_depth(host: Hosted, tmp_path: Path) -> None:
    house = FixHouse(host, depth=False)
    findings = found(written(tmp_path, over_fix(house.port)))
    house.close()
    assert bad(findings) == {"EURUSD depth": "refused: no market depth for this user"}
    assert "spread 2 ticks" in said(findings, "EURUSD quotes").found, "best prices are given"


def test_a_tick_that_is_too_coarse(fix: FixHouse, tmp_path: Path) -> None:
    catalogue(tmp_path, tick=0.0001)
    findings = found(written(tmp_path, over_fix(fix.port)))
    assert "none can be used" in bad(findings)["EURUSD quotes"]
    assert "tick of 0.0001" in said(findings, "EURUSD quotes").fix


def test_a_lot_that_the_venue_does_not_trade(fix: FixHouse, tmp_path: Path) -> None:
    catalogue(tmp_path, lot=1500)
    assert "no multiple" in bad(found(written(tmp_path, over_fix(fix.port))))["EURUSD lot"]
    catalogue(tmp_path, lot=100)
    wrong = bad(found(written(tmp_path, over_fix(fix.port))))
    assert "an order of one lot is refused" in wrong["EURUSD smallest size"]


@pytest.mark.parametrize("seconds", [5, -5])
def test_a_clock_that_is_wrong_by_five_seconds(fix: FixHouse, tmp_path: Path, seconds: int) -> None:
    findings = found(written(tmp_path, over_fix(fix.port)), Shifted(seconds * S))
    assert set(bad(findings)) == {"clock"}
    way = "ahead of" if seconds > 0 else "behind"
    shown = said(findings, "clock")
    assert way in shown.found
    assert 4_900 < float(shown.found.split()[2]) < 5_100
    assert "NTP" in shown.fix


def test_orders_of_somebody_else_and_of_a_run_of_ours(fix: FixHouse, tmp_path: Path) -> None:
    def place(name: str) -> None:
        from emp.sim.venues.fix.feed import Told

        order = new_order(name, 1, 2, 108_700)
        fix.venue.told[name] = Told(order, "V1", market_id=name)
        fix.toy.take(order)

    fix.host.call(lambda: place("ABCDEFGH-00000001"))
    (tmp_path / "runs" / "live-ABCDEFGH").mkdir(parents=True)
    findings = found(written(tmp_path, over_fix(fix.port)))
    assert bad(findings) == {}
    assert "of run ABCDEFGH" in said(findings, "open orders").found
    fix.host.call(lambda: place("by-hand-1"))
    findings = found(written(tmp_path, over_fix(fix.port)))
    assert "by-hand-1: somebody else's" in bad(findings)["open orders"]


def test_a_position_that_stands_there(fix: FixHouse, tmp_path: Path) -> None:
    fix.toy.held["EURUSD"] = -3
    one = said(found(written(tmp_path, over_fix(fix.port))), "positions")
    assert (one.verdict, one.found) == ("warn", "-3000 of EURUSD at 1.08755")


def test_names_of_live_accounts_where_a_demo_one_is_meant(tmp_path: Path) -> None:
    access = over_fix(1, sender_comp_id="live.broker.12345", demo=True)
    assert "is one of live accounts" in bad(found(written(tmp_path, access)))["configuration"]
    access = over_fix(1, host="demo-uk.p.ctrader.com", demo=False)
    assert "is one of demo accounts" in bad(found(written(tmp_path, access)))["configuration"]


def test_a_peer_that_answers_nothing(host: Hosted, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.3)

    async def listen() -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        return await asyncio.start_server(serve, "127.0.0.1", 0)

    server = host.do(listen())
    port = server.sockets[0].getsockname()[1]
    findings = found(written(tmp_path, over_fix(port)))
    assert bad(findings) == {"session": f"127.0.0.1:{port}: no answer to the logon"}
    assert "access.port" in said(findings, "session").fix
    host.call(server.close)
    findings = found(written(tmp_path, over_fix(free_port())))
    assert "cannot connect" in bad(findings)["session"]
    assert "access.host" in said(findings, "session").fix


def scripted(host: Hosted) -> tuple[ScriptedVenue, dict[str, Any]]:
    """A venue that says what a test tells it to, and how it is reached."""
    venue = ScriptedVenue()
    venue.on["AF"] = lambda asked: venue.say("8", f"37=0|17=x|150=I|39=8|584={asked[584]}|911=0|")
    venue.on["AN"] = lambda asked: venue.say("AP", f"721=p|710={asked[710]}|728=2|727=0|")
    port = host.do(venue.start())
    return venue, over_fix(port, dialect="fix44", sender_comp_id="ME", target_comp_id="VENUE")


@pytest.mark.parametrize("words", ["the account of trader is disabled", ""], ids=["logout", "cut"])
def test_a_session_that_ends_under_way_is_told_and_not_made_again(
    host: Hosted, tmp_path: Path, words: str
) -> None:
    venue, access = scripted(host)
    venue.on["V"] = lambda _: venue.say("5", f"58={words}|") if words else venue.cut()
    wrong = found(written(tmp_path, access))
    logons = venue.logons
    host.do(venue.close())
    assert logons == 1, "a broken session is told; to log on again and again locks accounts"
    shown = bad(wrong)["session"]
    assert "logged on in" in shown
    assert ("then: the peer logged out: the account of *** is disabled" in shown) is bool(words)
    assert said(wrong, "EURUSD quotes").found == "none before the session ended"


@pytest.mark.parametrize(
    ("book", "advice"),
    [
        ("55=EUR/USD|268=1|269=0|270=1.1|271=5000|278=b|", "access.symbols.EURUSD"),
        ("55=EURUSD|268=2|269=0|270=1.2|271=5000|278=b|269=1|270=1.1|271=5000|278=a|", "recordings.md"),
        ("55=EURUSD|268=2|269=0|270=1.1000003|271=5000|278=b|269=1|270=1.2|271=5000|278=a|", "tick of 1e-05"),
    ],
    ids=["another name", "crossed", "finer tick"],
)
def test_why_quotes_cannot_be_used_says_what_to_do(
    host: Hosted, tmp_path: Path, book: str, advice: str
) -> None:
    venue, access = scripted(host)
    venue.on["V"] = lambda _: venue.say("W", book)
    findings = found(written(tmp_path, access))
    host.do(venue.close())
    assert "none can be used" in bad(findings)["EURUSD quotes"]
    assert advice in said(findings, "EURUSD quotes").fix


def test_positions_that_the_venue_will_not_tell_are_not_none(host: Hosted, tmp_path: Path) -> None:
    venue, access = scripted(host)
    venue.on["V"] = lambda _: venue.book()
    venue.on["AN"] = lambda asked: venue.say("AP", f"721=p|710={asked[710]}|728=99|727=0|58=not yours|")
    one = said(found(written(tmp_path, access)), "positions")
    host.do(venue.close())
    assert (one.verdict, one.found) == ("warn", "refused: the venue refused 35=AN: not yours")


def test_two_sessions_with_a_list_of_symbols(host: Hosted, tmp_path: Path) -> None:
    clock = Shifted(to_wednesday())
    house = FixHouse(
        host, ("EURUSD", "GBPUSD"), dialect=CTRADER, symbols={"EURUSD": "1", "GBPUSD": "2"}, clock=clock
    )
    access = over_fix(house.port, dialect="ctrader", trade_port=house.port)
    findings = found(written(tmp_path, access), clock)
    assert bad(findings) == {}
    assert said(findings, "quote session").verdict == said(findings, "trade session").verdict == "ok"
    assert said(findings, "EURUSD symbol").found == "1 (EURUSD)"
    assert said(findings, "EURUSD tick").found == "1e-05, as in the catalogue"
    crossed = found(written(tmp_path, {**access, "symbols": {"EURUSD": "2"}}), clock)
    assert bad(crossed) == {"EURUSD symbol": "2 (GBPUSD) is not EURUSD at the venue"}
    catalogue(tmp_path, tick=0.000001)
    wrong = bad(found(written(tmp_path, access), clock))
    assert "they differ" in wrong["EURUSD tick"]
    house.close()


def test_a_refused_password_is_not_tried_on_the_second_session(
    host: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_FIX_PASSWORD", "wrong")
    clock = Shifted(to_wednesday())
    house = FixHouse(host, dialect=CTRADER, symbols={"EURUSD": "1"}, clock=clock)
    logons: list[str] = []
    accept = house.venue.session_for

    def counted(client: Any) -> Any:
        logons.append("made")
        return accept(client)

    house.venue.session_for = counted  # type: ignore[method-assign]
    access = over_fix(house.port, dialect="ctrader", trade_port=house.port)
    wrong = bad(found(written(tmp_path, access), clock))
    house.close()
    assert "invalid credentials" in wrong["quote session"]
    assert "not tried" in wrong["trade session"]
    assert len(logons) == 1


def test_observing_opens_no_trade_session(host: Hosted, tmp_path: Path) -> None:
    clock = Shifted(to_wednesday())
    house = FixHouse(host, dialect=CTRADER, symbols={"EURUSD": "1"}, clock=clock)
    access = over_fix(house.port, dialect="ctrader", trade_port=house.port)
    findings = found(written(tmp_path, access, mode="observe"), clock)
    house.close()
    assert bad(findings) == {}
    assert not any(one.what in ("trade session", "open orders", "positions") for one in findings)


def test_quickfix_as_the_broker(tmp_path: Path) -> None:
    pytest.importorskip(
        "quickfix", reason="needs quickfix-ssl, which has a wheel for CPython 3.11 on x86_64 only"
    )

    async def run() -> tuple[list[Finding], dict[str, Any]]:
        port = free_port()
        access = over_fix(port, dialect=PLAIN.name, sender_comp_id="ME", target_comp_id="QF")
        async with Peer.running("accept", port, "QF", "ME", "0.05") as peer:
            findings = await asyncio.to_thread(found, written(tmp_path, access))
            return findings, await peer.ask()

    findings, facts = asyncio.run(run())
    assert bad(findings) == {}
    assert said(findings, "EURUSD depth").found == "2 levels a side"
    assert said(findings, "EURUSD lot").verdict == "silent"
    assert said(findings, "open orders").found == "none"
    assert (facts["orders"], facts["rejects"]) == ({}, 0)


# --- over the Open API -----------------------------------------------------------------------------------------


class ApiHouse:
    """An Open API venue in a thread, whose market moves."""

    def __init__(
        self, host: Hosted, pem: Path, names: tuple[str, ...] = ("EURUSD",), clock: Any = None
    ) -> None:
        self.host = host
        self.market = Moving([find(name) for name in names], clock or LiveClock())

        async def start() -> None:
            self.venue = CTraderVenue(self.market, account=12_345)
            await self.venue.start(server_tls(pem))
            self.moving = asyncio.create_task(self.market.move())

        host.do(start())

    def access(self, **more: Any) -> dict[str, Any]:
        return {
            "connection_protocol": "ctrader", "host": "127.0.0.1", "port": self.venue.port,
            "account": "12345", **more,
        }  # fmt: skip


@pytest.fixture
def api(host: Hosted, pem: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiHouse]:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem.with_name("cert.pem")))
    monkeypatch.setenv("EMP_CTRADER_CLIENT_ID", "app")
    monkeypatch.setenv("EMP_CTRADER_CLIENT_SECRET", "app-secret")
    monkeypatch.setenv("EMP_CTRADER_ACCESS_TOKEN", "access-1")
    house = ApiHouse(host, pem)
    yield house
    host.do(house.venue.stop())


WEEK = tuple(ProtoOAInterval(start_second=d * 86_400, end_second=(d + 1) * 86_400) for d in range(7))


def test_a_sound_account(api: ApiHouse, tmp_path: Path) -> None:
    api.venue.terms["EURUSD"] = {
        "commission_type": CommissionType.USD_PER_MILLION_USD,
        "precise_trading_commission_rate": 30 * 10**8,
        "schedule": WEEK,
        "schedule_time_zone": "America/New_York",
        "swap_long": -6.1,
        "swap_short": 2.3,
        "lot_size": 10_000_000,
    }
    findings = found(written(tmp_path, api.access(demo=True)))
    assert bad(findings) == {}
    assert not [one for one in findings if one.verdict == "silent"]
    assert said(findings, "demo or live").found == "demo"
    assert said(findings, "account kind").found == "netting"
    assert said(findings, "right to trade").found == "the account may trade"
    assert said(findings, "EURUSD tick").found == "1e-05, as in the catalogue"
    assert said(findings, "EURUSD smallest size").found == "1000, largest 1e+06; one lot is 1000"
    commission = said(findings, "EURUSD commission")
    assert commission.found == "30 USD per million USD, now 3.3 ticks a lot; 3.3 ticks a lot in the catalogue"
    assert commission.verdict == "ok"
    assert (
        said(findings, "EURUSD hours").found
        == "7 spans a week in America/New_York, 168.0 h, as in the catalogue"
    )
    assert (
        said(findings, "EURUSD swap").found
        == "long -6.1, short 2.3 pips (the catalogue has none; the venue's hold)"
    )
    assert said(findings, "EURUSD depth").found == "2 levels a side"
    assert said(findings, "clock").verdict == "ok"
    assert api.market.orders == []


def test_what_differs_from_the_catalogue_is_marked(api: ApiHouse, tmp_path: Path) -> None:
    api.venue.terms["EURUSD"] = {
        "precise_trading_commission_rate": 60 * 10**8,
        "schedule": WEEK[1:6],
        "schedule_time_zone": "UTC",
        "digits": 4,
        "step_volume": 300_000,
        "min_volume": 300_000,
    }
    findings = found(written(tmp_path, api.access()))
    wrong = bad(findings)
    assert "0.0001 at the venue, 1e-05 in the catalogue" in wrong["EURUSD tick"]
    assert "steps of 3000: no multiple" in wrong["EURUSD lot"]
    assert "an order of one lot is refused" in wrong["EURUSD smallest size"]
    assert "set the lot in the instrument catalogue" in wrong["EURUSD terms"]
    hours = said(findings, "EURUSD hours")
    assert (hours.verdict, "120.0 h; 168.0 h in the catalogue: they differ" in hours.found) == ("warn", True)


def test_a_wrong_secret_and_a_wrong_token_are_told_without_their_values(
    api: ApiHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CTRADER_CLIENT_SECRET", "not-the-secret")
    wrong = bad(found(written(tmp_path, api.access())))
    assert set(wrong) == {"the Open API"}
    assert "CH_CLIENT_AUTH_FAILURE: bad secret ***" in wrong["the Open API"]
    monkeypatch.setenv("EMP_CTRADER_CLIENT_SECRET", "app-secret")
    monkeypatch.setenv("EMP_CTRADER_ACCESS_TOKEN", "stolen")
    wrong = bad(found(written(tmp_path, api.access())))
    assert "obtain new tokens" in wrong["the Open API"]
    assert "stolen" not in str(wrong)


def test_each_thing_that_stands_before_trading(api: ApiHouse, tmp_path: Path) -> None:
    assert "has no symbol for GBPUSD" in str(
        bad(found(written(tmp_path, api.access(), names=("EURUSD", "GBPUSD"))))["GBPUSD symbol"]
    )
    api.venue.faults.refuse_depth = "INVALID_REQUEST"
    findings = found(written(tmp_path, api.access()))
    assert bad(findings) == {"EURUSD depth": "refused: INVALID_REQUEST: no depth for this account"}
    assert "access.depth: false" in said(findings, "EURUSD depth").fix
    assert "spread 2 ticks" in said(findings, "EURUSD quotes").found
    assert bad(found(written(tmp_path, api.access(depth=False)))) == {}
    api.venue.faults.refuse_depth = ""
    api.venue.live = True
    assert "a live account" in bad(found(written(tmp_path, api.access(demo=True))))["demo or live"]
    assert said(found(written(tmp_path, api.access(demo=False))), "demo or live").found == "live: real money"
    api.venue.rights = AccessRights.NO_TRADING
    assert "NO_TRADING" in bad(found(written(tmp_path, api.access())))["right to trade"]
    api.venue.rights, api.venue.scope = AccessRights.FULL_ACCESS, ClientPermissionScope.SCOPE_VIEW
    assert "SCOPE_VIEW" in bad(found(written(tmp_path, api.access())))["right to trade"]


def test_somebody_elses_order_and_a_clock_that_is_wrong(api: ApiHouse, tmp_path: Path) -> None:
    from emp.access.ctrader.enums import OrderType, TimeInForce, TradeSide
    from emp.access.ctrader.messages import ProtoOANewOrderReq

    order = ProtoOANewOrderReq(
        ctid_trader_account_id=12_345, symbol_id=1, order_type=OrderType.LIMIT, trade_side=TradeSide.BUY,
        volume=100_000, limit_price=1.05, time_in_force=TimeInForce.GOOD_TILL_CANCEL, client_order_id="mine",
    )  # fmt: skip
    api.host.call(lambda: api.venue.account.new_order(order, 0))
    findings = found(written(tmp_path, api.access()), Shifted(5 * S))
    assert set(bad(findings)) == {"open orders", "clock"}
    assert "mine: somebody else's" in said(findings, "open orders").found
    assert "ahead of the venue's" in said(findings, "clock").found
    assert 4_900 < float(said(findings, "clock").found.split()[2]) < 5_100


def test_a_venue_that_falls_silent(api: ApiHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emp.access.ctrader.settings import Settings

    monkeypatch.setattr(connection, "ctrader_settings", quick(connection.ctrader_settings))
    assert Settings(account=1).answer_ns == 5 * S, "what a survey waits for an answer"
    api.venue.faults.silent = True
    findings = found(written(tmp_path, api.access()))
    assert "no answer to ProtoOAApplicationAuthReq" in bad(findings)["the Open API"]
    assert "access.port" in said(findings, "the Open API").fix


def quick(make: Any) -> Any:
    """Settings that wait for half a second."""

    def made(*arguments: Any) -> Any:
        import msgspec

        settings, tokens = make(*arguments)
        return msgspec.structs.replace(settings, answer_ns=S // 2), tokens

    return made
