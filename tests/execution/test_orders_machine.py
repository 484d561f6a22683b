"""The order manager under any interleaving of sends, replacements, fills, losses, disorder, queries and restarts."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emp.core.codes import OrderStatus, WorkingState
from emp.core.contracts import Command, NewOrder, OrderUpdate
from emp.execution.orders import OrderManager
from tests.kit.orders import cancel_order, new_order, replace_order

S = OrderStatus
INSTRUMENTS = ("GOOG", "MSFT")
PICK = st.integers(0, 1 << 16)


class Truth:
    """What really happened to one order at the venue."""

    def __init__(self, order: NewOrder) -> None:
        self.order = order
        self.name, self.qty, self.px = order.cl_ord_id, order.qty, order.px  # as they are in force
        self.keeps_id = order.decision_seq % 3 == 0  # some venues do, over every replacement
        self.carried_out = ""  # newest replacement in force
        self.filled = 0
        self.status = S.NEW
        self.price = order.px
        self.told: dict[
            int, tuple[int, float]
        ] = {}  # fills that reached us: cumulative quantity -> price, fee


class Orders(RuleBasedStateMachine):
    """A venue that is never wrong behind a network that loses, repeats and reorders."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = OrderManager(INSTRUMENTS)
        self.log: list[Command | OrderUpdate] = []  # what a ledger would hold
        self.venue: dict[str, Truth] = {}
        self.network: list[OrderUpdate] = []
        self.delivered: list[OrderUpdate] = []
        self.ids: dict[str, str] = {}  # every id that a report may carry -> the order's first
        self.count = 0

    def next(self) -> int:
        self.count += 1
        return self.count

    def tell(self, truth: Truth, name: str = "", fee: float = 0.0, **change: Any) -> None:
        status = truth.status
        fields = {
            "clOrdID": name or truth.name,
            "execID": f"E{self.next()}",
            "status": status,
            "filled": truth.filled,
            "price": truth.price,
            "ts": self.count,
            "instrument": truth.order.instrument,
            "side": truth.order.side,
            "fee": fee,
        }
        self.network.append(OrderUpdate(**(fields | change)))

    def send(self, command: Command) -> None:
        self.log.append(command)
        assert self.manager.sent(command) is None
        assert self.manager.sent(command) is None

    @rule(instrument=st.sampled_from(INSTRUMENTS), side=st.sampled_from([1, -1]), qty=st.integers(1, 9))
    def new(self, instrument: str, side: int, qty: int) -> None:
        n = self.next()
        order = new_order(
            f"O{n}", side, qty, 100 + n % 7, instrument=instrument, immediate=n % 4 == 0, ts=n, seq=n
        )
        self.send(order)
        self.venue[order.cl_ord_id] = truth = Truth(order)
        self.ids[order.cl_ord_id] = order.cl_ord_id
        if n % 11 == 0:
            truth.status = S.REJECTED
        self.tell(truth)

    def pick(self, which: int) -> Truth:
        return list(self.venue.values())[which % len(self.venue)]

    @precondition(lambda self: self.venue)
    @rule(which=PICK, qty=st.integers(1, 9), fee=st.sampled_from([-0.25, 0.5, 1.0]))
    def fill(self, which: int, qty: int, fee: float) -> None:
        truth = self.pick(which)
        if truth.status.terminal:
            return
        truth.filled = min(truth.qty, truth.filled + qty)
        truth.price = truth.px - qty % 3
        truth.status = S.FILLED if truth.filled == truth.qty else S.PARTIALLY_FILLED
        self.tell(truth, fee=fee)

    @precondition(lambda self: self.venue)
    @rule(which=PICK)
    def cancel(self, which: int) -> None:
        truth, n = self.pick(which), self.next()
        order = self.manager.order(truth.name)
        assert order is not None
        command = cancel_order(f"C{n}", order.command.cl_ord_id, instrument=truth.order.instrument, ts=n)
        self.send(command)
        self.ids[command.cl_ord_id] = truth.order.cl_ord_id
        if truth.status.terminal:
            self.tell(truth, name=command.cl_ord_id, status=S.REJECTED, filled=0)
        else:
            truth.status = S.CANCELED
            self.tell(truth, name=command.cl_ord_id if n % 2 else "")

    def replaceable(self) -> list[Truth]:
        """Orders that rest as far as we know, and on which no replacement is on its way."""
        found = [o for o in self.manager.open_orders() if o.replacement is None and not o.command.immediate]
        return [self.venue[o.original.cl_ord_id] for o in found]

    @precondition(lambda self: self.replaceable())
    @rule(which=PICK, more=st.integers(-1, 6), move=st.integers(-2, 2))
    def replace(self, which: int, more: int, move: int) -> None:
        truths = self.replaceable()
        truth = truths[which % len(truths)]
        order = self.manager.order(truth.name)
        assert order is not None
        n, qty = self.next(), max(1, order.filled + more)
        command = replace_order(
            f"R{n}",
            order.command.cl_ord_id,
            truth.order.side,
            qty,
            order.command.px + move,
            instrument=truth.order.instrument,
            ts=n,
        )
        self.send(command)
        self.ids[command.cl_ord_id] = truth.order.cl_ord_id
        if truth.status.terminal or qty <= truth.filled:
            self.tell(truth, name=command.cl_ord_id, status=S.REJECTED, filled=0)
            return
        truth.qty, truth.px, truth.carried_out = qty, command.px, command.cl_ord_id
        if not truth.keeps_id:
            truth.name = command.cl_ord_id
        self.tell(truth, replacement=command.cl_ord_id)

    @precondition(lambda self: self.venue)
    @rule()
    def time_out(self) -> None:
        n = self.next()
        for query in self.manager.timeouts(n, 3):
            self.send(query)
            truth = self.venue[self.ids[query.cl_ord_id]]
            if query.cl_ord_id == truth.name:
                self.tell(truth)
            elif query.cl_ord_id == truth.carried_out:
                self.tell(truth, replacement=truth.carried_out)
            else:
                assert query.cl_ord_id.startswith("R"), (
                    "an order is asked for by an id that it has or will have"
                )
                self.tell(truth, name=query.cl_ord_id, status=S.REJECTED, filled=0)

    @precondition(lambda self: self.venue)
    @rule(which=PICK)
    def status(self, which: int) -> None:
        """The venue tells an order's status unasked (a mass status)."""
        self.tell(self.pick(which))

    def deliver(self, update: OrderUpdate) -> None:
        self.log.append(update)
        self.delivered.append(update)
        applied = self.manager.apply(update)
        assert applied.alarm is None, applied.alarm
        before = self.state()
        again = self.manager.apply(update)
        assert (again.changed, again.fill, again.alarm) == (False, None, None)
        assert self.state() == before
        truth = self.venue[self.ids[update.clOrdID]]
        known = truth.told.get(update.filled)
        if update.filled and (known is None or known[1] == 0.0):
            truth.told[update.filled] = (update.price, update.fee)

    @precondition(lambda self: self.network)
    @rule(which=PICK)
    def arrive(self, which: int) -> None:
        """Any of the reports under way arrives: in order or not."""
        self.deliver(self.network.pop(which % len(self.network)))

    @precondition(lambda self: self.network)
    @rule()
    def arrive_first(self) -> None:
        self.deliver(self.network.pop(0))

    @precondition(lambda self: any(u.replacement for u in self.network))
    @rule()
    def lose_a_consent(self) -> None:
        self.network.remove(next(u for u in self.network if u.replacement))

    @precondition(lambda self: self.network)
    @rule(which=PICK)
    def lose(self, which: int) -> None:
        self.network.pop(which % len(self.network))

    @precondition(lambda self: self.delivered)
    @rule(which=PICK)
    def repeat(self, which: int) -> None:
        before = self.state()
        self.manager.apply(self.delivered[which % len(self.delivered)])
        assert self.state() == before

    @rule()
    def restart(self) -> None:
        before = self.state()
        self.manager = OrderManager(INSTRUMENTS)
        for entry in self.log:
            if isinstance(entry, OrderUpdate):
                self.manager.apply(entry)
            else:
                self.manager.sent(entry)
        assert self.state() == before

    def state(self) -> tuple[bytes, bytes]:
        return self.manager.accounts.tobytes(), self.manager.working.tobytes()

    @invariant()
    def account_is_the_fold_of_the_unique_fills(self) -> None:
        for index, instrument in enumerate(INSTRUMENTS):
            position = traded = 0
            cash = fees = 0.0
            for truth in self.venue.values():
                if truth.order.instrument == instrument:
                    below = 0
                    for cumulative, (price, fee) in sorted(truth.told.items()):
                        position += truth.order.side * (cumulative - below)
                        traded += cumulative - below
                        cash -= truth.order.side * (cumulative - below) * price
                        fees += fee
                        below = cumulative
            account = self.manager.accounts[index]
            assert (account["position"], account["traded"], account["cash"]) == (position, traded, cash)
            assert account["fees"] == fees  # the fees are multiples of a quarter: their sums are exact

    @invariant()
    def quantity_is_conserved(self) -> None:
        for name, truth in self.venue.items():
            order = self.manager.order(name)
            assert order is not None
            assert order.filled == max(truth.told, default=0) <= truth.filled
            ended = order.status.terminal
            asked = order.replacement
            if asked is None:
                now = order.command
                assert (now.cl_ord_id, now.qty, now.px) == (truth.name, truth.qty, truth.px)
            else:
                assert truth.qty in (order.command.qty, asked.qty)
            most = truth.qty if asked is None else max(order.command.qty, asked.qty)
            assert order.leaves == (0 if ended else most - order.filled)
            shown = {o.working for o in self.manager.open_orders() if o.replacement is not None}
            assert WorkingState.RESTING not in shown, "nothing new before the replacement's report"
            assert (order in self.manager.open_orders()) == (not ended)

    def time_out_all(self) -> None:
        """Ask until every replacement is settled."""
        self.count += 10
        for _ in range(3):
            if self.venue:
                self.time_out()
            while self.network:
                self.deliver(self.network.pop(0))
            self.count += 10
        assert all(o.replacement is None for o in self.manager.open_orders())

    def teardown(self) -> None:
        """Once the venue has told every status, both sides agree."""
        for truth in self.venue.values():
            self.tell(truth)
        while self.network:
            self.deliver(self.network.pop(0))
        self.time_out_all()
        for instrument in INSTRUMENTS:
            orders = [t for t in self.venue.values() if t.order.instrument == instrument]
            assert self.manager.position(instrument) == sum(t.order.side * t.filled for t in orders)
            working = {t.order.cl_ord_id for t in orders if not t.status.terminal}
            assert {o.original.cl_ord_id for o in self.manager.open_orders(instrument)} == working
        assert self.manager.quarantined == []


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=150, stateful_step_count=50)
