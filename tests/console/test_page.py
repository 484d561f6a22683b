"""The console in a real browser, over a board with known figures: what was published is what a person sees."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from emp.observe.board import DecisionView, LinkView
from tests.console.kit import DECISION, GOLD, SILVER, TOKEN, Served, served, view

SECOND = 1_000_000_000
LONG = msgspec.structs.replace(
    SILVER, name="A-NAME.OF/AN INSTRUMENT", position=123_456, pnl_ticks=-1_234_567.8
)


def feed(page: Served, n: int, first: int = 0, *others: Any, mode: str = "mock") -> None:
    """Publish `n` moments, a second of market time apart; the position counts them."""
    for i in range(first, first + n):
        held = msgspec.structs.replace(GOLD, last_ts=GOLD.last_ts + i * SECOND, position=i)
        page.board.publish(view(held, *others, now_ns=i * SECOND, mode=mode))


def text_of(tab: Any, selector: str = "body") -> str:
    return re.sub(r"\s+", " ", tab.inner_text(selector))


def until(tab: Any, holds: str, argument: object = None, seconds: float = 20.0) -> None:
    """Wait until an expression is true on the page; the page's own policy allows no `wait_for_function`."""
    end = time.monotonic() + seconds
    while not tab.evaluate(holds, argument):
        assert time.monotonic() < end, f"it never came true: {holds}"
        time.sleep(0.05)


def no_sideways(tab: Any) -> bool:
    return tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everything_that_was_published_is_there(open_page: Any) -> None:
    with served() as page:
        page.board.publish(view(GOLD, links={"trade": LinkView(up=False, reason="good night")}))
        page.console.log.add(
            '{"ts": 1700000000000000000, "level": "warning", "event": "order refused", "order": "RUN-3"}\n'
        )
        tab = open_page(page.server.url)
        tab.wait_for_selector("#ladder .ownmark >> text=34 ahead")
        tab.wait_for_selector("#log .warning")
        shown = text_of(tab)
        for words in (
            "EMP MOCK", "run RUN", "trade down", "1,995.7", "1,995.8",
            "-12.5 PnL after fees", "-10.0 realised", "-2.5 unrealised",
            "post post edge sell 2 1,995.7 +3.25 +1.50 – 9",
            "N-00000007 new buy 1,995.7 1/2 34", "position 4 of 10 lots",
            "no edge 7 70.0 %", "buy 2 1,995.7 rested – +1.25 –", "order refused order RUN-3", "down: good night",
        ):  # fmt: skip
            assert words in shown, words


def test_what_is_not_known_is_a_dash_and_no_zero(open_page: Any) -> None:
    with served() as page:
        page.board.publish(view(msgspec.structs.replace(SILVER, bid=0, ask=0)))
        tab = open_page(page.server.url)
        tab.wait_for_selector(".card")
        cards = {
            c.split("\n")[1]: c.split("\n")[0]
            for c in tab.eval_on_selector_all(".card", "all => all.map((c) => c.innerText)")
        }
        for name in (
            "bid",
            "ask",
            "spread, ticks",
            "realised",
            "unrealised",
            "expected a lot",
            "brought a lot",
        ):
            assert cards[name] == "–", name
        assert cards["book"] == "none"
        assert "no book" in text_of(tab, "#ladder")
        assert "no decision yet" in text_of(tab, "#decisions")


def test_who_only_observes_has_no_position_no_money_and_nothing_to_halt(open_page: Any) -> None:
    with served() as page:
        feed(page, 3, mode="observe")
        tab = open_page(page.server.url)
        tab.wait_for_selector("#ladder td.px")
        shown = text_of(tab)
        for words in ("PnL", "position", "Decisions", "fees", "Kill", "Limits", "latency", "restarts"):
            assert words not in shown, words
        for words in ("OBSERVE", "1,995.7", "Stop run", "good book", "no model"):
            assert words in shown, words


def test_a_fill_without_a_new_event_changes_the_newest_moment(open_page: Any) -> None:
    with served() as page:
        feed(page, 3)
        tab = open_page(page.server.url)
        until(tab, "globalThis.emp?.store.lines.ts.length === 3")
        still = msgspec.structs.replace(GOLD, last_ts=GOLD.last_ts + 2 * SECOND, position=77)
        page.board.publish(view(still, now_ns=60 * SECOND))
        until(tab, "emp.store.lines.position?.at(-1) === 77")
        assert tab.evaluate("[emp.store.lines.ts.length, emp.store.lines.bid.length]") == [3, 3]
        tab.reload()
        until(tab, "globalThis.emp?.store.lines.position?.at(-1) === 77")
        assert tab.evaluate("emp.store.lines.position") == [0, 1, 77]


def test_decisions_in_flight_are_folded_and_the_edge_is_in_favour_of_the_trade(open_page: Any) -> None:
    waits = [
        msgspec.structs.replace(DECISION, n=n, action="hold", reason="in_flight", side=0, qty=0)
        for n in (4, 3, 2)
    ]
    against = msgspec.structs.replace(DECISION, n=5, side=1, edge_ticks=-0.5, came_ticks=-7.0)
    rows: tuple[DecisionView, ...] = (against, *waits, DECISION)
    with served() as page:
        page.board.publish(view(msgspec.structs.replace(GOLD, decisions=rows)))
        tab = open_page(page.server.url)
        tab.wait_for_selector("#decisions tr.fold")
        rows_of = "all => all.map((row) => row.innerText.replace(/\\s+/g, ' '))"
        assert tab.eval_on_selector_all("#decisions tbody tr", rows_of) == [
            "22:13:20.123 post post edge buy 2 1,995.7 -0.50 +1.50 -7.0 9",
            "in flight: 3 decisions waited for an answer",
            "22:13:20.123 post post edge sell 2 1,995.7 +3.25 +1.50 – 9",
        ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_reads_well_and_draws(open_page: Any, width: int, scheme: str) -> None:
    with served() as page:
        feed(page, 40, 0, LONG)
        tab = open_page(page.server.url, width, 900, scheme)
        tab.wait_for_selector("#decisions td.l")
        assert no_sideways(tab)
        tab.locator("#price").scroll_into_view_if_needed()
        until(tab, DRAWN, "#price canvas")
        poor = tab.evaluate(CONTRAST)
        assert not poor, poor
        background = tab.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
        )
        assert (background < 60) == (scheme == "dark")
        for chart in ("#pnl", "#position", "#came", "#fan"):
            tab.locator(chart).scroll_into_view_if_needed()
            until(tab, DRAWN, f"{chart} canvas")
        assert no_sideways(tab)


DRAWN = """(selector) => {
  const canvas = document.querySelector(selector), seen = new Set();
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 200) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  return seen.size > 8;
}"""
"""Whether more stands on a canvas than axes."""

CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 10 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c[3] !== 0) return c;
    }
    return [255, 255, 255];
  };
  const written = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!e.offsetParent || e.disabled || !written(e)) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.push([e.tagName, e.className, e.textContent.slice(0, 30), ratio]);
  }
  return poor;
}"""
"""What is written with less contrast than 4.5."""


def test_a_reload_and_a_second_device_have_the_whole_history(open_page: Any) -> None:
    with served() as page:
        feed(page, 50)
        tab = open_page(page.server.url)
        until(tab, "emp.store.lines.ts.length === 50")
        feed(page, 5, 50)
        until(tab, "emp.store.lines.ts.length === 55")
        tab.reload()
        until(tab, "emp.store.lines.ts.length === 55")
        second = open_page(page.server.url, 390, 800, "dark")
        until(second, "emp.store.lines.ts.length === 55")
        feed(page, 3, 55)
        for each in (tab, second):
            until(each, "emp.store.lines.ts.length === 58")
            assert each.evaluate("emp.store.lines.position.at(-1)") == 57
            assert each.evaluate("emp.store.decisions.length") == 1


def test_a_lost_connection_is_said_and_taken_up_again(open_page: Any) -> None:
    with served() as page:
        feed(page, 10)
        tab = open_page(page.server.url, fails=True)
        until(tab, "emp.store.lines.ts.length === 10")
        tab.context.set_offline(True)
        page.server.stop()
        tab.wait_for_selector("#health >> text=/run has ended|connection lost/")
        assert "bad" in tab.get_attribute("#health", "class")
        again = type(page.server)(page.server._app, "127.0.0.1", int(page.host.split(":")[1]))
        page.server._app.state.ending = False
        again.start()
        try:
            tab.context.set_offline(False)
            feed(page, 2, 10)
            until(
                tab,
                "emp.store.lines.ts.length === 12 && !/lost|ended/.test(document.querySelector('#health').textContent)",
            )
        finally:
            again.stop()


def test_a_start_is_no_alarm_and_an_illness_is_one(open_page: Any) -> None:
    with served() as page:
        tab = open_page(page.server.url)
        tab.wait_for_selector("#health >> text=starting")
        assert tab.get_attribute("#health", "class") == "pill wait"
        feed(page, 1)
        tab.wait_for_selector("#health >> text=healthy")
        page.board.publish(view(GOLD, halted=True, halt_reason="daily_loss"))
        tab.wait_for_selector("#health.bad >> text=risk halted: daily_loss")
        assert tab.get_attribute("#health", "aria-live") == "polite"


def test_instruments_are_chosen_and_what_nobody_knew_is_shown_as_a_group(open_page: Any) -> None:
    with served() as page:
        feed(page, 3, 0, msgspec.structs.replace(LONG, restarts={"market": 17}))
        tab = open_page(page.server.url, 390)
        tab.wait_for_selector("#tabs [role=tab][aria-selected=true] >> text=GC")
        tab.click(f"#tabs [data-name='{LONG.name}']")
        tab.wait_for_selector("#ladder >> text=no book")
        until(tab, "emp.store.lines.ts.length >= 1")
        assert "+123,456" in text_of(tab, "#cards")
        tab.wait_for_selector("#system dd >> text=17")
        assert tab.evaluate("document.title").startswith(LONG.name)
        assert no_sideways(tab)
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_selector("#tabs [role=tab][aria-selected=true] >> text=GC")


def test_keys_alone_move_zoom_and_tell_and_reach_every_control(open_page: Any) -> None:
    with served() as page:
        feed(page, 40)
        tab = open_page(page.server.url)
        until(tab, "emp.store.lines.ts.length === 40")
        tab.focus("#price")
        span = tab.evaluate("emp.time.span")
        tab.keyboard.press("+")
        assert tab.evaluate("emp.time.span") < span
        tab.keyboard.press("Shift+ArrowLeft")
        assert tab.evaluate("emp.time.end") is not None
        tab.keyboard.press("Home")
        assert tab.evaluate("emp.time.end") is None
        for _ in range(3):
            tab.keyboard.press("ArrowLeft")
        assert "bid 1,995.7" in tab.get_attribute("#price", "aria-label")
        assert tab.is_visible("#price .tip")
        tab.focus(".skip")
        reached = []
        for _ in range(12):
            tab.keyboard.press("Tab")
            reached.append(tab.evaluate("document.activeElement.dataset.do ?? document.activeElement.id"))
        assert [name for name in reached if name in ("halt", "resume", "flatten", "kill", "stop", "reason")] == [
            "halt", "resume", "flatten", "kill", "stop", "reason",
        ]  # fmt: skip
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", (
            "focus is seen"
        )


def test_pointing_at_a_chart_tells_time_and_values(open_page: Any) -> None:
    with served() as page:
        feed(page, 40)
        tab = open_page(page.server.url)
        until(tab, "emp.store.lines.ts.length === 40")
        box = tab.locator("#price").bounding_box()
        tab.mouse.move(box["x"] + box["width"] - 100, box["y"] + 100)
        until(tab, "/\\d\\d:\\d\\d:\\d\\d/.test(document.querySelector('#price .tip').textContent)")
        assert "ask 1,995.8" in tab.inner_text("#price .tip")
        tab.click("#money")
        assert "-125.00 USD" in text_of(tab, "#cards")


def test_a_control_takes_two_presses_and_the_token(open_page: Any) -> None:
    with served() as page:
        feed(page, 2)
        tab = open_page(page.server.url, fails=True)
        tab.wait_for_selector(".card")
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
        tab.click("[data-do=kill]")
        tab.wait_for_selector("#tokenform:visible")
        assert "need the token" in tab.inner_text("#answer")
        tab.fill("#token", "wrong")
        tab.keyboard.press("Enter")
        tab.dblclick("[data-do=kill]")
        assert tab.inner_text("[data-do=kill]") == "Press again: kill", "a double click is one press"
        tab.keyboard.press("Escape")
        assert tab.inner_text("[data-do=kill]") == "Kill"
        assert not asked
        press_twice(tab, "kill")
        tab.wait_for_selector("#answer.bad >> text=the token is wrong or missing")
        tab.goto(f"{page.server.url}/#token={TOKEN}")
        tab.reload()
        assert "token" not in tab.evaluate("location.href"), "it stands in no history of the browser"
        tab.wait_for_selector(".card")
        press_twice(tab, "halt")
        tab.wait_for_selector("#answer.bad >> text=the run has not begun yet")


def press_twice(tab: Any, do: str) -> None:
    tab.click(f"[data-do={do}]")
    time.sleep(0.3)
    tab.click(f"[data-do={do}]")


def test_another_sites_page_can_neither_see_nor_do(open_page: Any) -> None:
    with served() as page, served() as other:
        feed(page, 2)
        tab = open_page(other.server.url.replace("127.0.0.1", "localhost"), fails=True)
        with pytest.raises(Exception, match="Failed to fetch"):
            tab.evaluate("(url) => fetch(url + '/snapshot').then((answer) => answer.text())", page.server.url)
        for mode in ("cors", "no-cors"):
            with pytest.raises(Exception, match="Failed to fetch"):
                tab.evaluate(FORGED, [page.server.url, TOKEN, mode])


FORGED = """([url, token, mode]) => fetch(url + "/control", {
  method: "POST", mode, body: '{"do": "kill"}', headers: {"Content-Type": "application/json", "X-Emp-Token": token},
})"""


def test_a_login_lets_a_browser_see(open_page: Any) -> None:
    with served(login=True) as page:
        feed(page, 2)
        tab = open_page(page.server.url, 390, fails=True)
        assert no_sideways(tab)
        tab.fill("input[name=token]", "wrong")
        tab.click("button")
        tab.wait_for_selector("text=That is not the token.")
        tab.fill("input[name=token]", TOKEN)
        tab.click("button")
        until(tab, "globalThis.emp?.store.lines.ts.length === 2")


class Cut:
    """A line to a server that can die unheard: what went over it until then is neither carried on nor closed."""

    def __init__(self, port: int) -> None:
        self._port, self._alive = port, [True]
        self._sockets: list[socket.socket] = []
        self._carrying: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def connections(self) -> int:
        """How many are open."""
        return sum(one.is_alive() for one in self._carrying) // 2

    def die(self) -> None:
        """Let all connections that there are die; new ones live."""
        self._alive[0] = False
        self._alive = [True]

    def close(self) -> None:
        self.die()
        for one in (self._listening, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            self._sockets += [near, far]
            for ends in ((near, far), (far, near)):
                carrying = threading.Thread(target=self._carry, args=(*ends, self._alive), daemon=True)
                self._carrying.append(carrying)
                carrying.start()

    def _carry(self, come: socket.socket, go: socket.socket, alive: list[bool]) -> None:
        with suppress(OSError):
            while (got := come.recv(1 << 16)) and alive[0]:
                go.sendall(got)
            if alive[0]:
                go.shutdown(socket.SHUT_WR)


@pytest.fixture
def cut() -> Iterator[tuple[Served, Cut]]:
    with served() as page:
        line = Cut(int(page.host.split(":")[1]))
        yield page, line
        line.close()


def test_a_line_that_died_unheard_is_asked_for_anew_and_nothing_is_missing(
    cut: tuple[Served, Cut], open_page: Any
) -> None:
    page, line = cut
    feed(page, 10)
    tab = open_page(line.url, fails=True)
    until(tab, "globalThis.emp?.store.lines.ts.length === 10")
    end = time.monotonic() + 60
    while (
        line.connections() > 1
    ):  # those that only brought the page are closed by the server when they are idle
        assert time.monotonic() < end
        time.sleep(0.05)
    line.die()
    feed(page, 5, 10)
    tab.wait_for_selector("#health.bad >> text=connection lost")
    until(tab, "emp.store.lines.ts.length === 15", seconds=40)
    until(tab, "!/lost/.test(document.querySelector('#health').textContent)")
    assert tab.evaluate("emp.store.lines.position") == list(range(15))


def test_a_control_whose_line_died_can_be_pressed_again(open_page: Any) -> None:
    with served() as page:
        feed(page, 2)
        tab = open_page(f"{page.server.url}/#token={TOKEN}", fails=True)
        tab.wait_for_selector(".card")
        tab.route("**/control", lambda route: None)  # neither answered nor refused
        press_twice(tab, "kill")
        tab.wait_for_selector("#answer.bad >> text=kill: no answer came")
        assert tab.is_enabled("[data-do=kill]")


def test_a_page_that_nobody_sees_leaves_its_line_to_those_that_are_seen(open_page: Any) -> None:
    with served() as page:
        feed(page, 10)
        tab = open_page(page.server.url)
        until(tab, "globalThis.emp?.store.lines.ts.length === 10")
        tab.evaluate(SEEN, False)
        end = time.monotonic() + 20
        while page.console._stream._pages:
            assert time.monotonic() < end, "it holds its line"
            time.sleep(0.05)
        feed(page, 7, 10)
        tab.evaluate(SEEN, True)
        until(tab, "emp.store.lines.ts.length === 17")
        assert tab.evaluate("emp.store.lines.position") == list(range(17))
        tab.wait_for_selector("#health >> text=healthy")


SEEN = """(seen) => {
  Object.defineProperty(document, "hidden", {value: !seen, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_page_too_many_says_so_and_goes_on_when_one_is_closed(
    open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emp.app.console.stream.MOST", 1)
    with served() as page:
        feed(page, 10)
        first = open_page(page.server.url)
        until(first, "globalThis.emp?.store.lines.ts.length === 10")
        second = open_page(page.server.url)
        second.wait_for_selector("#health.bad >> text=too many viewers: 1 page")
        time.sleep(4.0)  # longer than it takes a page to call its connection lost
        assert "Close one" in second.inner_text("#health")
        assert second.evaluate("document.querySelector('#health').getAttribute('aria-live')") == "polite"
        first.close()
        until(second, "globalThis.emp?.store.lines.ts.length === 10")
        until(second, "!/viewers/.test(document.querySelector('#health').textContent)")


def test_all_stays_all_while_the_run_goes_on(open_page: Any) -> None:
    with served() as page:
        feed(page, 40)
        tab = open_page(page.server.url)
        until(tab, "globalThis.emp?.store.lines.ts.length === 40")
        tab.click("#spans button >> text=all")
        assert tab.evaluate("emp.time.span") == 39 * SECOND
        feed(page, 60, 40)
        until(tab, "emp.store.lines.ts.length === 100")
        assert tab.evaluate("emp.time.span") == 99 * SECOND
        everything = "#spans button[aria-pressed=true]"
        assert tab.inner_text(everything) == "all"
        tab.focus("#price")
        tab.keyboard.press("+")
        assert tab.locator(everything).count() == 0


def test_money_is_called_by_the_currency_of_what_is_shown(open_page: Any) -> None:
    yen = msgspec.structs.replace(SILVER, money_per_tick=100.0, currency="JPY", pnl_ticks=2.0)
    none = msgspec.structs.replace(SILVER, name="PL", pnl_ticks=3.0)
    with served() as page:
        feed(page, 3, 0, yen, none)
        tab = open_page(page.server.url)
        tab.wait_for_selector(".card")
        tab.click("#money")
        for name, said, shown in (
            ("GC", "USD", "-125.00 USD"),
            ("SI", "JPY", "+200.00 JPY"),
            ("PL", "ticks", "+3.0"),
        ):
            tab.click(f"#tabs [data-name={name}]")
            tab.wait_for_selector(f"#money >> text=in {said}")
            assert said in tab.inner_text("#pnlunit")
            assert shown in text_of(tab, "#cards")


def test_tabs_are_those_of_the_run_that_is_on(open_page: Any) -> None:
    with served() as page:
        feed(page, 3, 0, SILVER)
        tab = open_page(page.server.url)
        tab.wait_for_selector("#tabs [data-name=SI]")
        feed(page, 3, 3, msgspec.structs.replace(SILVER, name="PL"))
        tab.wait_for_selector("#tabs >> text=PL")
        tab.click("#tabs >> text=PL")
        until(tab, "emp.store.name === 'PL'")
