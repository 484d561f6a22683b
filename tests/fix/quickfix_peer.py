"""A FIX peer built on QuickFIX, run in a process of its own: an acceptor with a market, or an initiator.

    python quickfix_peer.py accept PORT SENDER TARGET SECONDS_BETWEEN_UPDATES [LOGS]
    python quickfix_peer.py initiate PORT SENDER TARGET HEARTBEAT_SECONDS [LOGS]

QuickFIX's own log of every message goes into the folder LOGS, where one is named.

It shares nothing with the product: its own dictionary, its own books, its own arithmetic. It prints one JSON
object per line on standard output and reads one command per line from standard input.
"""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import quickfix as fix
import quickfix44 as fix44

SYMBOL = "EURUSD"
TICK = 0.00001
SPEAKING = threading.Lock()


def dictionary(role: str, folder: Path) -> Path:
    """The stock FIX 4.4 dictionary; as a venue with the MDEntryID that many put into snapshots."""
    stock = Path(sys.prefix) / "share" / "quickfix" / "FIX44.xml"
    if role == "initiate":
        return stock
    head, tail = stock.read_text().split("<component name='MDFullGrp'>", 1)
    entry = "<field name='MDEntryType' required='Y' />"
    assert entry in tail
    tail = tail.replace(entry, entry + "<field name='MDEntryID' required='N' />", 1)
    path = folder / "dictionary.xml"
    path.write_text(f"{head}<component name='MDFullGrp'>{tail}")
    return path


def settings(role: str, port: int, sender: str, target: str, folder: Path, beat: int) -> fix.SessionSettings:
    lines = [
        "[DEFAULT]",
        f"ConnectionType={'acceptor' if role == 'accept' else 'initiator'}",
        f"SocketAcceptPort={port}" if role == "accept" else f"SocketConnectPort={port}",
        "SocketConnectHost=127.0.0.1",
        "SocketReuseAddress=Y",
        "ReconnectInterval=1",
        "StartTime=00:00:00",
        "EndTime=00:00:00",
        f"HeartBtInt={beat}",
        "MaxLatency=120",
        "UseDataDictionary=Y",
        "ValidateFieldsOutOfOrder=Y",
        "ValidateFieldsHaveValues=Y",
        "ValidateUserDefinedFields=N",
        f"DataDictionary={dictionary(role, folder)}",
        f"FileStorePath={folder}",
        f"FileLogPath={folder}",
        "[SESSION]",
        "BeginString=FIX.4.4",
        f"SenderCompID={sender}",
        f"TargetCompID={target}",
    ]
    path = folder / "session.cfg"
    path.write_text("\n".join(lines) + "\n")
    return fix.SessionSettings(str(path))


def say(**facts: object) -> None:
    with SPEAKING:  # threads of QuickFIX speak, too
        print(json.dumps(facts), flush=True)


def get(message: fix.Message, tag: int, default: str = "") -> str:
    return message.getField(tag) if message.isSetField(tag) else default


class App(fix.Application):
    """What both roles share: the session id, and a count of rejects."""

    def __init__(self) -> None:
        super().__init__()
        self.session: fix.SessionID | None = None
        self.lock = threading.RLock()
        self.rejects = 0
        self.rejects_sent: list[str] = []
        self.logons = 0

    def onCreate(self, session: fix.SessionID) -> None:
        self.session = session

    def onLogon(self, session: fix.SessionID) -> None:
        self.logons += 1

    def onLogout(self, session: fix.SessionID) -> None:
        pass

    def toAdmin(self, message: fix.Message, session: fix.SessionID) -> None:
        if message.getHeader().getField(35) == "3":
            self.rejects += 1
            self.rejects_sent.append(message.toString().replace("\x01", "|"))
            say(reject_sent=message.toString().replace("\x01", "|"))

    def fromAdmin(self, message: fix.Message, session: fix.SessionID) -> None:
        if message.getHeader().getField(35) == "3":
            self.rejects += 1
            say(reject_received=message.toString().replace("\x01", "|"))

    def toApp(self, message: fix.Message, session: fix.SessionID) -> None:
        pass

    def send(self, message: fix.Message) -> None:
        fix.Session.sendToTarget(message, self.session)


class Venue(App):
    """A market of one symbol: two levels a side keyed by id, orders that fill at once, in parts, or rest."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s
        self.mid = 108_755
        self.next_id = 1
        self.book: dict[str, tuple[str, int, int]] = {}
        self.subscribed = ""
        self.orders: dict[str, dict] = {}
        self.position = 0
        self.cash = 0  # ticks times units
        self.fills: dict[str, tuple[dict, int, int]] = {}  # execID -> (order, quantity, price)
        self.corrected: dict[str, int] = {}  # execID of a correction -> by what it changed the cash
        self.refuses_market = ""  # how a subscription is refused: by 35=j, 35=3 or 35=Y
        self.refusals: list[str] = []  # how the next new orders are refused: by 35=j or by 35=3
        self.frozen = False
        self.executions = 0
        self.updates = 0

    # market data

    def fresh_book(self, levels: int = 2) -> dict[str, tuple[str, int, int]]:
        entries = {}
        for depth in range(levels, 0, -1):  # the worse level first: nothing promises an order
            for side, sign in (("0", -1), ("1", 1)):
                size = 1_000_000 * depth + 1_000 * (self.next_id * 7919 % 613)
                entries[f"E{self.next_id}"] = (side, self.mid + sign * depth, size)
                self.next_id += 1
        return entries

    def snapshot(self, levels: int = 2) -> None:
        self.book = self.fresh_book(levels)
        message = fix44.MarketDataSnapshotFullRefresh()
        message.setField(fix.StringField(262, self.subscribed))
        message.setField(fix.StringField(55, SYMBOL))
        for name, (side, px, size) in self.book.items():
            group = fix44.MarketDataSnapshotFullRefresh.NoMDEntries()
            group.setField(fix.StringField(269, side))
            group.setField(fix.StringField(278, name))
            group.setField(fix.StringField(270, f"{px * TICK:.5f}"))
            group.setField(fix.StringField(271, str(size)))
            message.addGroup(group)
        self.send(message)

    def step(self) -> None:
        """Move the market by one tick and tell it as deletes and news."""
        with self.lock:
            if self.frozen:
                return
            self.updates += 1
            self.mid += (self.updates * 7919 % 3) - 1
            if self.subscribed:
                old, self.book = self.book, self.fresh_book()
                message = fix44.MarketDataIncrementalRefresh()
                message.setField(fix.StringField(262, self.subscribed))
                for name in old:
                    group = fix44.MarketDataIncrementalRefresh.NoMDEntries()
                    group.setField(fix.StringField(279, "2"))
                    group.setField(fix.StringField(278, name))
                    group.setField(fix.StringField(55, SYMBOL))
                    message.addGroup(group)
                for name, (side, px, size) in self.book.items():
                    group = fix44.MarketDataIncrementalRefresh.NoMDEntries()
                    group.setField(fix.StringField(279, "0"))
                    group.setField(fix.StringField(269, side))
                    group.setField(fix.StringField(278, name))
                    group.setField(fix.StringField(55, SYMBOL))
                    group.setField(fix.StringField(270, f"{px * TICK:.5f}"))
                    group.setField(fix.StringField(271, str(size)))
                    message.addGroup(group)
                self.send(message)
            for order in list(self.orders.values()):
                if order["status"] in "01" and not order["ioc"] and self.updates % 5 == 0:
                    self.fill(order, min(1000, order["qty"] - order["cum"]), order["px"])

    # orders

    def report(
        self, order: dict, kind: str, last: int = 0, px: int = 0, extra: dict[int, str] | None = None
    ) -> None:
        """Tell the state of an order; what `extra` has as empty is left out."""
        self.executions += 1
        message = fix.Message()
        message.getHeader().setField(fix.StringField(35, "8"))
        average = order["cost"] / order["cum"] if order["cum"] else 0
        leaves = order["qty"] - order["cum"] if order["status"] in "01" else 0
        values = {
            37: order["venue_id"], 17: f"X{self.executions}", 150: kind, 39: order["status"], 55: SYMBOL,
            54: order["side"], 38: str(order["qty"]), 44: f"{order['px'] * TICK:.5f}", 14: str(order["cum"]),
            151: str(leaves), 6: f"{average * TICK:.7f}", 11: order["id"],
        }  # fmt: skip
        if last:
            values |= {31: f"{px * TICK:.5f}", 32: str(last)}
        for tag, text in (values | (extra or {})).items():
            if text:
                message.setField(fix.StringField(tag, text))
        message.setField(fix.TransactTime())
        self.send(message)

    def book_fill(self, order: dict, qty: int, px: int, sign: int = 1) -> None:
        """Book a fill, or with `sign` -1 take one back."""
        side = sign if order["side"] == "1" else -sign
        order["cum"] += sign * qty
        order["cost"] += sign * qty * px
        self.position += side * qty
        self.cash -= side * qty * px

    def fill(self, order: dict, qty: int, px: int) -> None:
        self.book_fill(order, qty, px)
        order["status"] = "2" if order["cum"] == order["qty"] else "1"
        self.fills[f"X{self.executions + 1}"] = order, qty, px
        self.report(order, "F", qty, px)

    def fill_at_once(self, order: dict) -> None:
        """In one to three parts, each at the limit or a tick or two better."""
        better = -1 if order["side"] == "1" else 1
        while order["cum"] < order["qty"]:
            left = order["qty"] - order["cum"]
            part = max(1000, left // (1 + self.executions % 3) // 1000 * 1000)
            self.fill(order, part, order["px"] + better * (self.executions * 7 % 3))

    def mend(self, kind: str, bare: bool) -> None:
        """Take a fill back (H) or change its price (G); `bare`: without saying what stands.

        Not while nobody is logged on: what a venue then says and forgets with its numbers, no message ever tells.
        """
        with self.lock:
            if not self.fills or not fix.Session.lookupSession(self.session).isLoggedOn():
                return
            names = list(self.fills)
            name = names[self.executions * 31 % len(names)]
            order, qty, px = self.fills.pop(name)
            self.book_fill(order, qty, px, -1)
            extra = {19: name} | ({14: "", 6: ""} if bare else {})
            if kind == "G":
                before = px
                px += 1 + self.executions % 4
                self.book_fill(order, qty, px)
                self.fills[f"X{self.executions + 1}"] = order, qty, px
                side = 1 if order["side"] == "1" else -1
                self.corrected[f"X{self.executions + 1}"] = -side * qty * (px - before)
                self.report(order, "G", qty, px, extra)
                return
            if order["status"] == "2":
                order["status"] = "4"
            elif order["status"] == "1" and order["cum"] == 0:
                order["status"] = "0"
            self.report(order, "H", extra=extra)

    def refuse(self, message: fix.Message, how: str) -> None:
        """An order or a request is refused for no good reason, in one of three bad ways."""
        refusal = fix.Message()
        refusal.getHeader().setField(fix.StringField(35, how))
        values = {45: message.getHeader().getField(34), 58: "the venue is in a bad mood"}
        if how == "j":
            values |= {372: message.getHeader().getField(35), 380: "0"}
        if how == "Y":
            values = {262: get(message, 262), 281: "0", 58: "the venue is in a bad mood"}
        for tag, text in values.items():
            refusal.setField(fix.StringField(tag, text))
        self.send(refusal)

    def do(self, what: str) -> None:
        """What a drill asks for."""
        if what in ("bust", "bare bust", "correction", "bare correction"):
            self.mend("H" if "bust" in what else "G", "bare" in what)
        elif what.startswith("refuse the market by"):
            self.refuses_market = what[-1]
        elif what.startswith("refuse"):
            self.refusals.append(what[-1])
        elif what == "huge":
            with self.lock:
                if self.subscribed:
                    self.snapshot(1_141)
        elif what == "wipe":
            fix.Session.lookupSession(self.session).reset()
        elif what == "freeze":
            with self.lock:
                self.frozen = True

    def on_new(self, message: fix.Message) -> None:
        name = get(message, 11)
        if name in self.orders:
            say(duplicate=name)
            return
        order = {
            "id": name, "venue_id": f"V{len(self.orders) + 1}", "side": get(message, 54), "cum": 0, "cost": 0,
            "qty": int(get(message, 38)), "px": round(float(get(message, 44)) / TICK), "status": "0",
            "ioc": get(message, 59) == "3",
        }  # fmt: skip
        if self.refusals:
            self.refuse(message, self.refusals.pop())
            return
        self.orders[name] = order
        if order["qty"] > 50_000:
            order["status"] = "8"
            self.report(order, "8", extra={58: "too large", 103: "3"})
            return
        self.report(order, "0")
        if order["ioc"]:
            self.fill_at_once(order)

    def refuse_change(self, message: fix.Message, asked: str, order: dict | None) -> None:
        refusal = fix.Message()
        refusal.getHeader().setField(fix.StringField(35, "9"))
        status = "8" if order is None else order["status"]
        values = {37: "NONE", 11: get(message, 11), 41: get(message, 41), 39: status, 434: asked, 102: "1"}
        for tag, text in values.items():
            refusal.setField(fix.StringField(tag, text))
        self.send(refusal)

    def on_cancel(self, message: fix.Message) -> None:
        order = self.orders.get(get(message, 41))
        if order is None or order["status"] not in "01":
            self.refuse_change(message, "1", order)
            return
        order["status"] = "4"
        self.report(order, "4", extra={11: get(message, 11), 41: order["id"]})

    def on_replace(self, message: fix.Message) -> None:
        order = self.orders.get(get(message, 41))
        qty = int(get(message, 38))
        if order is None or order["status"] not in "01" or qty <= order["cum"]:
            self.refuse_change(message, "2", order)
            return
        old = order["id"]
        del self.orders[old]
        order["id"] = get(message, 11)
        order["qty"] = qty
        order["px"] = round(float(get(message, 44)) / TICK)
        self.orders[order["id"]] = order
        self.report(order, "5", extra={41: old})

    def on_status(self, name: str, extra: dict[int, str]) -> None:
        order = self.orders.get(name)
        if order is None:
            order = {"id": name, "venue_id": "NONE", "side": "1", "cum": 0, "cost": 0, "qty": 0, "px": 0}
            order["status"] = "8"
        self.report(order, "I", extra={17: "0"} | extra)

    def on_mass_status(self, message: fix.Message) -> None:
        working = [o for o in self.orders.values() if o["status"] in "01"]
        request = get(message, 584)
        if not working:
            refusal = fix.Message()
            refusal.getHeader().setField(fix.StringField(35, "j"))
            for tag, text in {372: "AF", 379: request, 380: "1", 58: "no working orders"}.items():
                refusal.setField(fix.StringField(tag, text))
            self.send(refusal)
        for order in working:
            self.report(order, "I", extra={17: "0", 584: request, 911: str(len(working))})

    def on_positions(self, message: fix.Message) -> None:
        request = get(message, 710)
        answer = fix.Message()
        answer.getHeader().setField(fix.StringField(35, "AP"))
        values = {
            721: "P1", 710: request, 727: "1", 728: "0", 715: "20240101", 1: get(message, 1), 581: "1",
            55: SYMBOL, 730: "0", 731: "1", 734: "0",
        }  # fmt: skip
        for tag, text in values.items():
            answer.setField(fix.StringField(tag, text))
        parties = fix.Group(453, 448)
        parties.setField(fix.StringField(448, "ME"))
        answer.addGroup(parties)
        group = fix.Group(702, 703)
        group.setField(fix.StringField(703, "TOT"))
        group.setField(fix.StringField(704, str(max(self.position, 0))))
        group.setField(fix.StringField(705, str(max(-self.position, 0))))
        answer.addGroup(group)
        amounts = fix.Group(753, 707)
        amounts.setField(fix.StringField(707, "FMTM"))
        amounts.setField(fix.StringField(708, "0"))
        answer.addGroup(amounts)
        self.send(answer)

    def fromApp(self, message: fix.Message, session: fix.SessionID) -> None:
        with self.lock:
            kind = message.getHeader().getField(35)
            if kind == "V" and self.refuses_market and get(message, 263) == "1":
                self.refuse(message, self.refuses_market)
            elif kind == "V":
                self.subscribed = get(message, 262) if get(message, 263) == "1" else ""
                if self.subscribed:
                    self.snapshot()
            elif kind == "D":
                self.on_new(message)
            elif kind == "F":
                self.on_cancel(message)
            elif kind == "G":
                self.on_replace(message)
            elif kind == "H":
                self.on_status(get(message, 11), {})
            elif kind == "AF":
                self.on_mass_status(message)
            elif kind == "AN":
                self.on_positions(message)

    def onLogout(self, session: fix.SessionID) -> None:
        self.subscribed = ""

    def facts(self) -> dict:
        with self.lock:
            return {
                "position": self.position, "cash": self.cash, "fills": len(self.fills),
                "corrected": self.corrected,
                "updates": self.updates, "rejects": self.rejects,
                "logons": self.logons,
                "orders": {n: [o["status"], o["cum"], o["cost"]] for n, o in self.orders.items()},
                "subscribed": self.subscribed, "book": sorted(self.book.values()),
            }  # fmt: skip


class Trader(App):
    """An initiator that subscribes, counts what it sees, trades and writes down its reports."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[int] = []
        self.top: list[str] = []
        self.reports: list[dict[str, str]] = []
        self.answers: list[str] = []

    def onLogon(self, session: fix.SessionID) -> None:
        self.logons += 1
        say(logon=self.logons)

    def request(self, kind: str, values: dict[int, str]) -> None:
        message = fix.Message()
        message.getHeader().setField(fix.StringField(35, kind))
        for tag, text in values.items():
            message.setField(fix.StringField(tag, text))
        if kind in ("D", "F", "G", "AN", "q") and 60 not in values:
            message.setField(fix.TransactTime())
        if kind == "V":
            for side in "01":
                group = fix44.MarketDataRequest.NoMDEntryTypes()
                group.setField(fix.StringField(269, side))
                message.addGroup(group)
            symbol = fix44.MarketDataRequest.NoRelatedSym()
            symbol.setField(fix.StringField(55, SYMBOL))
            message.addGroup(symbol)
        if kind == "AN":
            group = fix.Group(453, 448)
            group.setField(fix.StringField(448, "QF"))
            message.addGroup(group)
        self.send(message)

    def fromApp(self, message: fix.Message, session: fix.SessionID) -> None:
        with self.lock:
            kind = message.getHeader().getField(35)
            if kind == "W":
                count = int(message.getField(268))
                self.entries.append(count)
                tops: dict[str, str] = {}
                for i in range(1, count + 1):
                    group = fix44.MarketDataSnapshotFullRefresh.NoMDEntries()
                    message.getGroup(i, group)
                    tops.setdefault(group.getField(269), group.getField(270))
                self.top = [tops.get("0", ""), tops.get("1", "")]
            elif kind in ("8", "9"):
                tags = (11, 41, 17, 39, 150, 14, 31, 32, 151, 58, 103, 6, 54)
                self.reports.append({str(t): get(message, t) for t in tags if message.isSetField(t)})
            else:
                self.answers.append(message.toString().replace("\x01", "|"))

    def facts(self) -> dict:
        with self.lock:
            return {
                "logons": self.logons, "rejects": self.rejects, "rejects_sent": self.rejects_sent,
                "snapshots": len(self.entries),
                "entries": self.entries[-1:], "top": self.top, "reports": self.reports, "answers": self.answers,
            }  # fmt: skip


def main() -> None:
    role, port, sender, target, pause = sys.argv[1:6]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        app = Venue(float(pause)) if role == "accept" else Trader()
        beat = int(pause) if role == "initiate" else 0
        config = settings(role, int(port), sender, target, folder, beat or 30)
        maker = fix.SocketAcceptor if role == "accept" else fix.SocketInitiator
        parts = [app, fix.MemoryStoreFactory(), config]
        if sys.argv[6:]:
            parts.append(fix.FileLogFactory(sys.argv[6]))
        engine = maker(*parts)
        engine.start()
        say(ready=True)
        if role == "accept":

            def walk() -> None:
                while True:
                    time.sleep(app.pause_s)
                    app.step()

            threading.Thread(target=walk, daemon=True).start()
        for line in sys.stdin:
            command = json.loads(line)
            if "stop" in command:
                break
            if "do" in command:
                app.do(command["do"])
            if "send" in command:
                app.request(command["send"], {int(t): v for t, v in command["fields"].items()})
            say(**({"logons": app.logons} if command.get("brief") else app.facts()))
        engine.stop(True)


if __name__ == "__main__":
    main()
