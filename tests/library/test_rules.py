"""Rules of one's own: decided in Python or compiled alike, held to the owner's limits, and loud where they fail."""

import gc
import logging
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import emp
from emp.app.wiring.assembly import describe_rule
from emp.app.wiring.rules import load_rule, recorded_rule
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.errors import JournalError
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits

EVENTS = 20_000


@pytest.fixture(scope="module")
def market() -> emp.MarketData:
    return emp.simulate("zi", "GC", events=EVENTS, seed=5)


def both_sides(seen: Any, request: Any) -> None:
    """Rest at the touch: buy where nothing is held, else sell what is held."""
    if seen.order_state == 2 and seen.order_age_ns > 20_000_000_000:
        emp.cancel(request)
    elif seen.order_state == 0 and seen.position <= 0:
        emp.post(request, 1, seen.bid, 2)
    elif seen.order_state == 0:
        emp.post(request, -1, seen.ask, seen.position)


def taker(seen: Any, request: Any) -> None:
    emp.cross(request, 1, 1000)


def test_python_and_compiled_decide_alike(market: emp.MarketData) -> None:
    plain = emp.backtest(market, rule=both_sides, model="linear", latency_ms=10)
    compiled = emp.backtest(market, rule=numba.njit(both_sides), model="linear", latency_ms=10)
    assert plain.summary["fills"] > 20
    assert plain.summary["action_log_sha256"] == compiled.summary["action_log_sha256"]
    assert set(plain.reasons()) <= {
        "own_rule",
        "in_flight",
        "warmup",
        "turnover_cap",
        "order_rate",
        "too_small",
    }
    assert plain.actions()["post"] > 20
    fills = plain.fills()
    assert fills.num_rows == plain.summary["fills"]
    signed = (fills["side"].to_numpy() * fills["qty"].to_numpy()).sum()
    assert signed == plain.summary["final_position"]


def test_no_rule_gets_past_the_owners_limits(market: emp.MarketData) -> None:
    limits = {
        "max_position_lots": 3,
        "max_order_lots": 2,
        "turnover_per_minute": 1e6,
        "turnover_per_hour": 1e6,
    }
    result = emp.backtest(market, rule=taker, model="linear", limits=limits)
    assert result.rows["qty"].max() == 2
    assert result.rows["inventory"].max() == result.summary["final_position"] == 3
    assert "position_limit" in result.reasons()
    losing = emp.backtest(market, rule=taker, model="linear", limits={"max_daily_loss": 1.0})
    assert losing.summary["halted_by"] == "daily_loss"
    assert losing.summary["final_position"] == 0


def test_a_rule_is_not_asked_before_the_model_is_warm_without_effect(market: emp.MarketData) -> None:
    result = emp.backtest(market[:2000], rule=taker, model="linear")
    warm = result.rows["reason_code"] != Reason.WARMUP
    assert warm.any()
    assert (result.rows["action"][~warm] == emp.HOLD).all()


def test_memory_of_its_own_is_kept_from_event_to_event(market: emp.MarketData) -> None:
    def counting(seen: Any, request: Any, mine: Any) -> None:
        mine[0] += 1
        mine[1] = seen.seq
        if mine[0] == 3000:
            emp.cross(request, 1, 1)

    plain, compiled = np.zeros(2, np.int64), np.zeros(2, np.int64)
    one = emp.backtest(market, rule=emp.Rule(counting, memory=plain), model="linear")
    two = emp.backtest(market, rule=emp.Rule(numba.njit(counting), memory=compiled), model="linear")
    assert plain.tolist() == compiled.tolist()
    assert plain[0] == len(one.rows)
    assert one.summary["fills"] == two.summary["fills"] == 1


def test_a_rule_lives_as_long_as_the_engine_that_it_decides_for(market: emp.MarketData) -> None:
    @numba.njit
    def counting(seen: Any, request: Any, mine: Any) -> None:
        mine[0] += 1
        if mine[0] == 1500:
            emp.cross(request, 1, 1)

    engine = Engine([market.instrument], load_model("linear"), EngineLimits(), "KEPT")
    emp.Rule(counting, memory=np.zeros(1, np.int64)).attach(engine)
    gc.collect()
    spoiled = [np.full(1, 7, np.int64) for _ in range(10_000)]  # takes the place of what was let go
    at, asked, decided = 0, [], 0
    while at < len(market):
        done = engine.process(market.events[at:])
        at += done.consumed
        decided += len(done.rows)
        asked += [decided] * len(done.commands)
    assert asked == [1500]
    assert len(spoiled) == 10_000


def test_what_it_sees_is_what_the_row_says(market: emp.MarketData) -> None:
    seen_by: list[tuple[Any, ...]] = []

    def watching(seen: Any, request: Any) -> None:
        seen_by.append((seen.seq, seen.bid, seen.ask, seen.position, seen.sigma_ticks, *seen.expected_ticks))
        if seen.order_state == 0:
            emp.post(request, 1, seen.bid, 1)

    result = emp.backtest(market, rule=watching, model="linear", latency_ms=10)
    rows = result.rows
    assert [s[0] for s in seen_by] == rows["seq"].tolist()
    assert [s[1:4] for s in seen_by] == list(
        zip(rows["bid"].tolist(), rows["ask"].tolist(), rows["inventory"].tolist(), strict=True)
    )
    assert [s[4] for s in seen_by] == rows["sigma_ticks"].tolist()
    moves = rows["mean"] * rows["unit_ticks"][:, None]
    assert np.array([s[5:] for s in seen_by]) == pytest.approx(moves, rel=1e-6)


def test_what_it_expects_is_held_against_what_came(market: emp.MarketData) -> None:
    def hopeful(seen: Any, request: Any) -> None:
        both_sides(seen, request)
        request.expected_ticks = 2.5

    result = emp.backtest(market, rule=hopeful, model="linear", latency_ms=10)
    assert result.summary["expected_value_per_lot"] == pytest.approx(2.5, abs=1e-6)
    assert "closed" in result.summary["realised_value_per_lot"]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_senseless_request_ends_in_one_line(market: emp.MarketData, compiled: bool) -> None:
    def wrong(seen: Any, request: Any) -> None:
        emp.post(request, 3, seen.bid, 1)

    with pytest.raises(
        emp.UsageError, match=r"rule wrong, at event \d+: asked for POST, side 3, 1 lots at \d+: "
    ):
        emp.backtest(market, rule=numba.njit(wrong) if compiled else wrong, model="linear")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("more_px", "more_lots"), [(0.5, 0.0), (0.0, 0.5)])
def test_a_fraction_of_a_tick_or_lot_is_not_cut_off_in_silence(
    market: emp.MarketData, compiled: bool, more_px: float, more_lots: float
) -> None:
    def fractional(seen: Any, request: Any) -> None:
        emp.post(request, 1, seen.bid + more_px, 1 + more_lots)

    rule = numba.njit(fractional) if compiled else fractional
    with pytest.raises(
        emp.UsageError,
        match=r"asked for POST, side 1, \d+ lots at (\d+|no whole tick): .* in whole lots and ticks",
    ):
        emp.backtest(market, rule=rule, model="linear")


def test_a_whole_number_may_be_a_float(market: emp.MarketData) -> None:
    def floats(seen: Any, request: Any) -> None:
        if seen.order_state == 0 and seen.position == 0:
            emp.post(request, 1, float(seen.bid), 1.0)

    assert emp.backtest(market, rule=floats, model="linear").summary["actions"] > 0


def test_a_rule_that_raises_ends_in_one_line_with_its_place(market: emp.MarketData) -> None:
    def failing(seen: Any, request: Any) -> None:
        raise ValueError("no idea")

    with pytest.raises(
        emp.UsageError, match=r"rule failing, at event 1: ValueError: no idea \(test_rules.py, line \d+\)"
    ):
        emp.backtest(market, rule=failing, model="linear")


def test_where_a_rule_failed_is_a_line_of_its_own_file(market: emp.MarketData) -> None:
    def misspelt(seen: Any, request: Any) -> None:
        emp.post(request, 1, seen.bit, 1)

    def without_a_price(seen: Any, request: Any) -> None:
        emp.post(request, 1, float("nan"), 1)

    for rule in (misspelt, without_a_price):
        with pytest.raises(emp.UsageError, match=r"at event 1: .* \(test_rules.py, line (\d+)\)") as caught:
            emp.backtest(market, rule=rule, model="linear")
        assert f"line {rule.__code__.co_firstlineno + 1})" in str(caught.value)


def test_a_rule_that_would_never_be_run_is_refused() -> None:
    def yields(seen: Any, request: Any) -> Any:
        yield emp.post(request, 1, seen.bid, 1)

    async def later(seen: Any, request: Any) -> None:
        emp.post(request, 1, seen.bid, 1)

    class Waits:
        async def __call__(self, seen: Any, request: Any) -> None:
            emp.post(request, 1, seen.bid, 1)

    for rule in (yields, later, Waits()):
        with pytest.raises(emp.UsageError, match="would never be run"):
            emp.Rule(rule)


def test_an_interrupt_in_a_rule_is_an_interrupt(market: emp.MarketData) -> None:
    def interrupted(seen: Any, request: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        emp.backtest(market, rule=interrupted, model="linear")


def test_what_numba_cannot_compile_is_said_in_one_line() -> None:
    @numba.njit
    def untyped(seen: Any, request: Any) -> None:
        request.px = "two"

    with pytest.raises(emp.UsageError, match="cannot be compiled") as caught:
        emp.Rule(untyped)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@numba.njit
def spread_of(seen: Any) -> Any:
    return seen.spred_ticks


def asks_seen(seen: Any, request: Any) -> None:
    request.px = seen.spred_ticks


def asks_by_name(seen: Any, request: Any) -> None:
    request.px = seen["spred_ticks"]


def asks_in_a_call(seen: Any, request: Any) -> None:
    request.px = spread_of(seen)


def writes_request(seen: Any, request: Any) -> None:
    request.expcted_ticks = 1.0


def asks_memory(seen: Any, request: Any, mine: Any) -> None:
    mine[0].cuont += 1


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (asks_seen, "seen has no field 'spred_ticks': did you mean 'spread_ticks'? there are ts seq .* max_position"),
        (asks_by_name, "seen has no field 'spred_ticks': did you mean 'spread_ticks'? there are ts seq "),
        (asks_in_a_call, "seen has no field 'spred_ticks': did you mean 'spread_ticks'? there are ts seq "),
        (writes_request, "request has no field 'expcted_ticks': did you mean 'expected_ticks'? there are action side "),
        (asks_memory, "the record has no field 'cuont': did you mean 'count'? there are count"),
    ],
)  # fmt: skip
def test_a_misspelt_field_is_named_with_what_was_meant_and_what_there_is(
    market: emp.MarketData, rule: Any, said: str, compiled: bool
) -> None:
    memory = np.zeros(1, [("count", "i8")]) if rule is asks_memory else None
    if memory is not None and not compiled:
        memory = memory.view(np.recarray)
    with pytest.raises(emp.UsageError, match=said.replace("?", r"\?")) as caught:
        emp.backtest(market, rule=emp.Rule(numba.njit(rule) if compiled else rule, memory), model="linear")
    assert "\n" not in str(caught.value)
    if rule is not asks_by_name:
        called = compiled and rule is asks_in_a_call  # Python's rules are told by the line of their own
        line = spread_of.py_func.__code__.co_firstlineno + 2 if called else rule.__code__.co_firstlineno + 1
        assert f"(test_rules.py, line {line})" in str(caught.value)


def test_a_key_that_a_rule_does_not_have_itself_is_no_misspelt_field(market: emp.MarketData) -> None:
    def asks_its_own(seen: Any, request: Any) -> None:
        request.px = {"bid": seen.bid}["bid_size"]

    with pytest.raises(
        emp.UsageError, match=r"at event 1: KeyError: 'bid_size' \(test_rules.py, line \d+\)$"
    ):
        emp.backtest(market, rule=asks_its_own, model="linear")


def test_a_misspelt_name_of_the_library_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(AttributeError, match="no attribute 'backtset': did you mean 'backtest'"):
        _ = emp.backtset  # type: ignore[attr-defined]
    assert not hasattr(emp, "__wrapped__")


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(emp.UsageError, match="takes 1 arguments"):
        emp.Rule(lambda seen: None)
    with pytest.raises(emp.UsageError, match="memory of its own, and none is given"):
        emp.Rule(lambda seen, request, mine: None)
    with pytest.raises(emp.UsageError, match="is given, and it takes"):
        emp.Rule(lambda seen, request: None, memory=np.zeros(1))


def test_a_market_that_answers(market: emp.MarketData) -> None:
    one = emp.backtest(
        emp.Flow("zi", events=EVENTS, seed=2), "GC", rule=numba.njit(both_sides), model="linear"
    )
    two = emp.backtest(emp.Flow("zi", events=EVENTS, seed=2), "GC", rule=both_sides, model="linear")
    assert one.summary["fills"] > 10
    assert one.rows.tobytes() != b""
    for name in ("seq", "action", "px", "pnl_ticks"):
        assert one.rows[name].tolist() == two.rows[name].tolist()
    fills = one.fills()
    assert (fills["side"].to_numpy() * fills["qty"].to_numpy()).sum() == one.summary["final_position"]
    assert fills["fee"].to_numpy().sum() == pytest.approx(one.summary["fees"])


def test_results_are_tables_pictures_and_pages(market: emp.MarketData, tmp_path: Path) -> None:
    result = emp.backtest(market, rule=both_sides, model="linear", latency_ms=10, folder=tmp_path / "run")
    frame = result.frame()
    assert frame.num_rows == len(result.rows)
    assert frame["reason"].to_pylist()[-1] in {"own_rule", "in_flight"}
    result.plot(tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")
    assert "own_rule" in result.page(tmp_path / "page.html").read_text()
    assert "fills" in repr(result)
    with pytest.raises(emp.UsageError, match="exists"):
        emp.backtest(market, rule=both_sides, model="linear", folder=tmp_path / "run")


def test_misuse_ends_in_one_line(market: emp.MarketData) -> None:
    with pytest.raises(emp.UsageError, match="there is no limit max_lots; there are max_position_lots"):
        emp.backtest(market, limits={"max_lots": 1})
    with pytest.raises(emp.UsageError, match="limits"):
        emp.backtest(market, limits={"max_position_lots": "many"})
    with pytest.raises(emp.UsageError, match="which instrument"):
        emp.backtest("file.csv")
    with pytest.raises(emp.UsageError, match="is of GC, not of GOOG"):
        emp.backtest(market, "GOOG")
    with pytest.raises(emp.UsageError, match="draws its own latencies"):
        emp.backtest(emp.Flow(), "GC", latency_ms=5)


def test_a_rule_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rules.py").write_text("def quiet(seen, request):\n    pass\n\nnumber = 3\n")
    (tmp_path / "broken_rules.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    assert load_rule("my_rules:quiet").name == "quiet"
    assert load_rule(f"{tmp_path}/my_rules.py:quiet").hash == load_rule("my_rules:quiet").hash
    for name, said in (
        ("my_rules", "module:object"),
        ("my_rules:missing", "no missing"),
        ("my_rules:number", "is a int"),
        ("no_such_module_at_all:x", "ModuleNotFoundError"),
        ("nowhere.py:x", "no such file"),
        ("broken_rules:x", "ZeroDivisionError"),
    ):
        with pytest.raises(emp.UsageError, match=said):
            load_rule(name)


def test_a_changed_rule_is_another_rule(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    hashes = set()
    for body in ("pass", "request.qty = 1"):
        path.write_text(f"def rule(seen, request):\n    {body}\n")
        hashes.add(load_rule(f"{path}:rule").hash)
    assert len(hashes) == 2


REACHING = """
import logging

import numpy as np
from reached import threshold

log = logging.getLogger(__name__)
weights = np.load("weights.npy")


def rule(seen, request):
    log.debug("asked")
    if seen.qimbalance * weights[0] > threshold():
        request.action, request.side, request.qty = 1, 1, 1
"""


def test_a_rule_is_another_where_its_helper_or_an_array_of_its_own_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reaching.py").write_text(REACHING)
    described = []
    for weight, level in ((1.0, 0.5), (1.0, 0.7), (2.0, 0.7), (1.0, 0.5)):
        np.save("weights.npy", np.array([weight]))
        Path("reached.py").write_text(f"def threshold():\n    return {level}\n")
        logging.getLogger(f"another_{weight}_{level}").setLevel(logging.INFO)
        described.append(describe_rule(load_rule("reaching.py:rule")))
    first, helped, weighed, again = described
    assert again == first
    assert len({one["values"] for one in (first, helped, weighed)}) == 3
    config = SystemConfig(mode="mock", instruments={"names": ["GC"]}, decision={"rule": "reaching.py:rule"})  # type: ignore[arg-type]
    earlier = {name: first[name] for name in ("name", "sha256")}
    for kept in (first, earlier):
        assert recorded_rule(config, kept, tmp_path / "planner") is not None
    for other in (helped, weighed):
        with pytest.raises(JournalError, match="rule, and it has changed since"):
            recorded_rule(config, other, tmp_path / "planner")


def test_what_a_rule_remembers_at_first_is_part_of_it() -> None:
    def rule(seen: Any, request: Any, mine: Any) -> None:
        pass

    one, other, same = (describe_rule(emp.Rule(rule, memory={"side": side})) for side in (1, -1, 1))
    assert one == same
    assert one != other
