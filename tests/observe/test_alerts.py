"""What a person is told of, once, and taken back once; whatever receivers do, nothing waits for them."""

import json
from collections.abc import Sequence
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.clock import SimClock
from emp.core.config.secrets import Secret
from emp.core.errors import ConfigError
from emp.observe import receivers as subject
from emp.observe.alert_log import CLEAR_S, HOUR_S, AlertLog, Told
from emp.observe.alert_sources import CLOCK_TOLD_S, OfBoard, OfHeartbeat
from emp.observe.alerting import Alerting, Outbox
from emp.observe.alerts import HOLD_S, Alert, alerts_of
from emp.observe.board import (
    AccountView,
    Board,
    DriftView,
    InstrumentView,
    LinkView,
    ModelView,
    ValueView,
    View,
)
from emp.observe.heartbeat import Beat
from emp.observe.receivers import Email, Origin, Push, UndeliveredError, Webhook
from emp.observe.trading_views import LimitView
from tests.kit.receiving import hook, mailbox

S = 10**9
ONE = InstrumentView(name="EURUSD", tick=1e-5, value=ValueView(earned_lots=1), position=3)
VIEW = View(mode="paper", run="R1", model="m", now_ns=0, started_ns=0, instruments=(ONE,))
ORIGIN = Origin(run="R1", mode="paper", host="box")


def told(
    status: str = "firing", name: str = "halted", text: str = "a reason", severity: str = "critical"
) -> Told:
    alert = Alert(name=name, severity=severity, text=text)
    return Told(status=status, alert=alert, since_ns=1_700_000_000 * S, at_ns=1_700_000_060 * S)


# --- which conditions there are --------------------------------------------------------------------------------------


def conditions(
    instrument: InstrumentView = ONE, said: Sequence[str] = (), **changed: object
) -> dict[str, Alert]:
    board = Board(SimClock())
    board.publish(msgspec.structs.replace(VIEW, instruments=(instrument,), **changed))
    return {one.name: one for one in alerts_of(board, said)}


def of(**changed: object) -> dict[str, Alert]:
    return conditions(msgspec.structs.replace(ONE, **changed))


def limits(name: str, used: float) -> tuple[LimitView, ...]:
    return (LimitView(name=name, value=used * 50, limit=50, unit="ticks"),)


def test_a_quiet_run_has_nothing_to_tell() -> None:
    assert conditions() == {}


def test_a_halt_and_a_kill_are_two_things_and_say_what_is_held() -> None:
    (halted,) = conditions(halted=True, halt_reason="daily_loss").values()
    assert (halted.name, halted.severity) == ("halted", "critical")
    assert halted.text == "trading is halted: daily_loss; held: EURUSD +3 lots"
    (killed,) = conditions(halted=True, halt_reason="kill_switch", breaches=("operator",)).values()
    assert killed.name == "killed"
    assert "operator" in killed.text


def test_of_several_instruments_each_that_is_halted_is_told() -> None:
    def halts(eurusd: str, gbpusd: str) -> dict[str, str]:
        reasons = {"EURUSD": eurusd, "GBPUSD": gbpusd}
        each = tuple(msgspec.structs.replace(ONE, name=n, halted=why) for n, why in reasons.items())
        board = Board(SimClock())
        breaches = ("GBPUSD: drill", "EURUSD: too much lost")
        board.publish(msgspec.structs.replace(VIEW, instruments=each, halted=True, breaches=breaches))
        return {f"{one.name} {one.instrument}": one.text for one in alerts_of(board)}

    assert list(halts("", "kill_switch")) == ["killed GBPUSD"]
    both = halts("daily_loss", "kill_switch")
    assert list(both) == ["halted EURUSD", "killed GBPUSD"]
    assert both["halted EURUSD"].startswith(
        "trading of EURUSD is halted: daily_loss; EURUSD: too much lost; held"
    )


def test_links_that_are_down_are_told_apart() -> None:
    board = Board(SimClock())
    down = LinkView(up=False, reason="logged out")
    board.publish(msgspec.structs.replace(VIEW, links={"market": down, "trade": down}))
    board.raise_alarm("trade link", "the same, as /health says it")
    found = {one.detail: one for one in alerts_of(board)}
    assert {key: one.severity for key, one in found.items()} == {"market": "warning", "trade": "critical"}
    assert found["trade"].key != found["market"].key
    assert found["trade"].text == "the trade link is down: logged out"


def test_only_limits_that_end_trading_are_told_of_and_end_below_where_they_began() -> None:
    near = of(limits=limits("loss of the day", 0.8))["near_limit"]
    assert "80% of loss of the day is used: 40 of 50 ticks" in near.text
    assert of(limits=limits("loss of the day", 0.79)) == {}
    assert of(limits=limits("position", 1.0)) == {}, "a full position is a day's work"
    instrument = msgspec.structs.replace(ONE, limits=limits("loss of the day", 0.71))
    assert list(conditions(instrument, [near.key])) == ["near_limit"]
    instrument = msgspec.structs.replace(ONE, limits=limits("loss of the day", 0.69))
    assert conditions(instrument, [near.key]) == {}
    account = conditions(account=AccountView(limits=limits("loss of the day", 0.9)))
    assert account["near_limit"].instrument == "account"


@pytest.mark.parametrize(
    ("changed", "name", "severity"),
    [
        ({"closing": "the link is down"}, "not_flat", "critical"),
        ({"stale": True, "stale_ms": 6_000.0}, "market_silent", "warning"),
        ({"degraded": True, "queue_depth": 70}, "degraded", "warning"),
        ({"value": ValueView(earned_lots=0)}, "value_stopped", "warning"),
    ],
)
def test_what_an_instrument_says(changed: dict[str, object], name: str, severity: str) -> None:
    (found,) = of(**changed).values()
    assert (found.name, found.severity, found.instrument) == (name, severity, "EURUSD")
    assert found.text.startswith("EURUSD: ")


def test_a_fallback_that_serves_is_told_with_the_reason() -> None:
    serving = ModelView(hash="0123456789abcdef", role="fallback", why="p99 0.4 ms")
    assert (
        conditions(serving=serving)["fallback_serves"].text == "model 0123456789ab has taken over: p99 0.4 ms"
    )


def test_alarms_of_the_board_are_told_by_their_names_before_the_first_view_too() -> None:
    board = Board(SimClock())
    board.raise_alarm("disk", "1 GB is left")
    board.raise_alarm("breaker REJECTS", "refused 20 orders")
    found = {one.key: one.severity for one in alerts_of(board)}
    assert found == {"disk//": "critical", "breaker//REJECTS": "warning"}


def test_an_engine_that_stands_still_is_told_with_what_it_holds() -> None:
    clock = SimClock()
    board = Board(clock)
    board.publish(VIEW)
    clock.set(5 * S)
    assert alerts_of(board) == []
    clock.set(6 * S)
    (found,) = alerts_of(board)
    assert (found.name, found.severity) == ("engine_silent", "critical")
    assert "EURUSD +3" in found.text


def test_drift_is_told_once_by_the_alarm_that_health_shows() -> None:
    board = Board(SimClock())
    drift = DriftView(psi={"a": 1.0}, drifted=("a",))
    board.publish(msgspec.structs.replace(VIEW, instruments=(msgspec.structs.replace(ONE, drift=drift),)))
    assert alerts_of(board) == []
    board.raise_alarm("drift", "inputs do not look as in training: EURUSD: a")
    assert [one.name for one in alerts_of(board)] == ["drift"]


class Stepping:
    """A clock whose wall time may be set."""

    def __init__(self) -> None:
        self.at = 0
        self.offset = 0

    def now_ns(self) -> int:
        return self.at + self.offset

    def monotonic_ns(self) -> int:
        return self.at


def test_a_wall_clock_that_is_set_is_told_for_a_while() -> None:
    clock = Stepping()
    watched = OfBoard(Board(clock), clock)
    names = []
    for second in range(int(CLOCK_TOLD_S) + 20):
        clock.at = second * S
        clock.offset = (-3_600 * S if second >= 5 else 0) + second * S // 1_000  # it also drifts a little
        names.append([one.text for one in watched.holding(())])
    assert names[:5] == [[]] * 5
    assert names[5] == ["the wall clock was set by -3600.0 s"]
    assert names[5 + int(CLOCK_TOLD_S)] == names[5]
    assert names[-1] == []


# --- when they are said ----------------------------------------------------------------------------------------------

KEYS = ("halted", "market_silent", "disk")


def held(names: Sequence[str]) -> list[Alert]:
    return [Alert(name=name, severity="warning", text=f"{name} holds") for name in names]


@given(st.lists(st.tuples(st.sets(st.sampled_from(KEYS)), st.integers(1, 60), st.booleans()), max_size=40))
def test_each_is_said_once_and_taken_back_once_whatever_comes_and_goes(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[set[str], int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "alerts.jsonl"
    log, now = AlertLog(path), 0
    open_now: dict[str, bool] = dict.fromkeys(KEYS, False)
    for names, seconds, restarts in [*story, (set(), 1, False)]:
        if restarts:
            log = AlertLog(path)
        for _ in range(seconds):
            now += 1
            for one in log.look(held(sorted(names)), float(now), now * S):
                name = one.alert.name
                assert (one.status == "firing") != open_now[name]
                assert (name in names) == (one.status == "firing")
                open_now[name] = not open_now[name]
        for name in names:
            if seconds > HOLD_S.get(name, 0.0):
                assert open_now[name], "what has held for its time was said"
    for _ in range(int(CLEAR_S) * 2**7 + 2):
        now += 1
        for one in log.look([], float(now), now * S):
            open_now[one.alert.name] = False
    assert not any(open_now.values()), "in the end everything is taken back"


def test_a_link_that_flaps_is_no_stream_of_messages() -> None:
    log = AlertLog()
    said = 0
    for second in range(int(4 * HOUR_S)):
        flaps = second % 62 < 31
        said += len(log.look(held(["halted"]) if flaps else [], float(second), second * S))
    assert 2 <= said <= 30, "every half minute it goes and comes: that were 460 messages"


def test_what_was_said_before_a_crash_is_not_said_again_and_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    assert len(AlertLog(path).look(held(["halted", "disk"]), 0.0, 7 * S)) == 2
    with path.open("ab") as file:
        file.write(b'{"status":"resolved","alert":{"name":"hal')  # the power went
    again = AlertLog(path)
    assert again.look(held(["halted"]), 100.0, 200 * S) == []
    (over,) = again.look(held(["halted"]), 100.0 + CLEAR_S, 300 * S)
    assert (over.status, over.alert.name, over.since_ns) == ("resolved", "disk", 7 * S)
    assert list(AlertLog(path).said) == ["halted//"], (
        "the torn line has cost nothing that was written after it"
    )


def test_a_full_disk_stops_no_alert(tmp_path: Path) -> None:
    log = AlertLog(tmp_path / "no such folder" / "alerts.jsonl")
    assert [one.status for one in log.look(held(["disk"]), 0.0, 0)] == ["firing"]


# --- that they arrive ------------------------------------------------------------------------------------------------


class Grumpy:
    """A receiver that fails as told."""

    name = "grumpy"

    def __init__(self) -> None:
        self.fails: UndeliveredError | None = None
        self.tries = 0
        self.taken: list[tuple[str, str]] = []

    def deliver(self, told: Told, origin: Origin) -> None:
        self.tries += 1
        if self.fails is not None:
            raise self.fails
        self.taken.append((told.alert.name, told.status))


def outbox(clock: SimClock) -> tuple[Outbox, Grumpy, Board]:
    board, receiver = Board(clock), Grumpy()
    return Outbox(receiver, OfBoard(board, clock), clock), receiver, board


def test_what_is_not_taken_is_tried_later_and_later_and_the_board_says_so() -> None:
    clock = SimClock()
    box, receiver, board = outbox(clock)
    receiver.fails = UndeliveredError("no route")
    box.put(told())
    tried = []
    for quarter in range(4 * 300):
        clock.set(quarter * S // 4)
        before = receiver.tries
        box.step(False)
        if receiver.tries > before:
            tried.append(quarter / 4)
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    assert board.alarms() == {"alerts grumpy": "alerts do not reach the grumpy: no route"}
    receiver.fails = None
    clock.set(400 * S)
    box.step(False)
    assert receiver.taken == [("halted", "firing")]
    assert (box.sent, box.lost, board.alarms()) == (1, 0, {})


def test_what_is_refused_for_good_is_counted_and_does_not_stand_in_the_way() -> None:
    box, receiver, board = outbox(SimClock())
    receiver.fails = UndeliveredError("answers 404", for_good=True)
    box.put(told(name="halted"))
    box.put(told(name="disk"))
    box.step(False)
    assert (receiver.tries, box.lost, box.sent) == (2, 2, 0)
    assert "answers 404" in board.alarms()["alerts grumpy"]
    box.step(False)
    assert receiver.tries == 2


def test_a_condition_that_ended_before_anybody_could_be_told_is_not_told() -> None:
    clock = SimClock()
    box, receiver, _ = outbox(clock)
    receiver.fails = UndeliveredError("no route")
    box.put(told(name="halted"))
    box.step(False)
    box.put(told("resolved", name="halted"))
    box.put(told(name="disk"))
    receiver.fails = None
    clock.set(60 * S)
    box.step(False)
    assert receiver.taken == [("disk", "firing")]


def test_a_condition_that_ends_while_it_is_being_told_is_taken_back() -> None:
    box, receiver, _ = outbox(SimClock())

    class Slow(Grumpy):
        def deliver(self, told: Told, origin: Origin) -> None:
            super().deliver(told, origin)
            if told.status == "firing":
                box.put(msgspec.structs.replace(told, status="resolved"))

    box._receiver = receiver = Slow()
    box.put(told(name="halted"))
    box.step(False)
    assert receiver.taken == [("halted", "firing"), ("halted", "resolved")]


def test_the_end_of_a_run_takes_back_and_tells_what_is_left() -> None:
    clock = SimClock(5 * S)
    board, receiver = Board(clock), Grumpy()
    board.publish(msgspec.structs.replace(VIEW, halted=True, halt_reason="drawdown"))
    alerting = Alerting(OfBoard(board, clock), [receiver], clock)
    alerting.step(False)
    for box in alerting.outboxes:
        box.step(False)
    alerting.stop([Alert(name="position_left", severity="critical", text="EURUSD +3")])
    for box in alerting.outboxes:
        box.step(True)
    assert receiver.taken == [("halted", "firing"), ("halted", "resolved"), ("position_left", "firing")]


def test_a_heartbeat_that_has_stopped_leaves_its_position_in_the_message() -> None:
    beat = Beat(run="R1", n=1, held={"EURUSD": -2}, orders=1)
    (found,) = OfHeartbeat(beat, 15.0).holding(())
    assert (found.name, found.severity) == ("position_without_engine", "critical")
    assert (
        found.text
        == "run R1 has been silent for 15 s; when it last spoke it held EURUSD -2 lots and 1 orders worked"
    )
    assert OfHeartbeat(beat, 15.0).origin().run == "R1"
    (found,) = OfHeartbeat(Beat(run="R1", n=1, held={}, orders=0), 15.0).holding(())
    assert (found.name, found.severity) == ("engine_gone", "warning")
    assert found.text.endswith("it held nothing")


# --- receivers, against servers --------------------------------------------------------------------------------------


def test_a_webhook_posts_what_happened_and_a_token_goes_along() -> None:
    with hook() as server:
        Webhook(f"{server.url}/in", Secret("abc")).deliver(told(), ORIGIN)
        (post,) = server.posts
    assert (post.path, post.authorization) == ("/in", "Bearer abc")
    assert post.body == {
        "version": 1,
        "status": "firing",
        "alert": "halted",
        "severity": "critical",
        "instrument": "",
        "detail": "",
        "title": "EMP paper, critical: halted",
        "text": "a reason\n\nsince 2023-11-14 22:13:20 UTC\nrun R1 on box",
        "since": "2023-11-14T22:13:20.000Z",
        "at": "2023-11-14T22:14:20.000Z",
        "run": "R1",
        "mode": "paper",
        "host": "box",
    }


def test_a_push_is_in_the_form_of_ntfy() -> None:
    with hook() as server:
        push = Push(f"{server.url}/below/alarms")
        push.deliver(told(text="ünder — water\nX-Injected: 1"), ORIGIN)
        push.deliver(told("resolved"), ORIGIN)
        first, second = server.posts
    assert first.path == "/below/"
    assert (first.body["topic"], first.body["priority"], first.body["tags"]) == (
        "alarms",
        5,
        ["rotating_light"],
    )
    assert first.body["message"].startswith("ünder — water\nX-Injected: 1")
    assert (second.body["priority"], second.body["title"]) == (2, "EMP paper, over: halted")


@pytest.mark.parametrize(
    ("status", "for_good"), [(404, True), (401, True), (429, False), (500, False), (503, False)]
)
def test_what_an_http_answer_means(status: int, for_good: bool) -> None:
    with hook() as server:
        server.status = status
        with pytest.raises(UndeliveredError, match=f"127.0.0.1 answers {status}") as caught:
            Webhook(f"{server.url}/token-in-the-path").deliver(told(), ORIGIN)
    assert caught.value.for_good is for_good
    assert "token-in-the-path" not in str(caught.value)


def test_a_redirect_is_not_followed() -> None:
    with hook() as server, hook() as other:
        server.status, server.location = 307, other.url
        with pytest.raises(UndeliveredError, match="answers 307"):
            Webhook(server.url, Secret("abc")).deliver(told(), ORIGIN)
        assert other.posts == []


def test_nobody_there_is_worth_another_try() -> None:
    with hook() as server:
        gone = server.url
    for receiver in (
        Webhook(gone),
        Email("a@b.example", "127.0.0.1", port=int(gone.rsplit(":", 1)[1]), encryption="none"),
    ):
        with pytest.raises(UndeliveredError, match="refused") as caught:
            receiver.deliver(told(), ORIGIN)
        assert not caught.value.for_good


def test_a_mail_arrives_as_one_whatever_stands_in_it() -> None:
    with mailbox() as box:
        mail = Email(
            "me@there.example", "127.0.0.1", sender="emp@box.example", port=box.port, encryption="none"
        )
        mail.deliver(told(text="fünf\n.\nBcc: other@there.example"), ORIGIN)
    (text,) = box.mails
    read = message_from_bytes(text, policy=default)
    assert (read["To"], read["From"]) == ("me@there.example", "emp@box.example")
    assert read["Subject"] == "EMP paper, critical: halted"
    assert read["Bcc"] is None
    content = read.get_content()
    assert content.splitlines()[0] == "fünf"
    assert "Bcc: other@there.example" in content


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_password_goes_through_tls_alone(
    pem: Path, from_the_start: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    encryption = "tls" if from_the_start else "starttls"
    with mailbox(pem, from_the_start=from_the_start) as box:
        Email(
            "me@there.example",
            "127.0.0.1",
            port=box.port,
            encryption=encryption,
            user=Secret("u"),
            password=Secret("p"),
        ).deliver(told(), ORIGIN)
    assert (box.logins, box.secured) == ([("u", "p")], [True])


def test_a_certificate_that_is_not_trusted_stops_the_mail_and_the_password(pem: Path) -> None:
    with mailbox(pem) as box:
        mail = Email(
            "a@b.example",
            "127.0.0.1",
            port=box.port,
            encryption="starttls",
            user=Secret("u"),
            password=Secret("p"),
        )
        with pytest.raises(UndeliveredError, match="certificate"):
            mail.deliver(told(), ORIGIN)
    assert (box.logins, box.mails) == ([], [])


@pytest.mark.parametrize(("answer", "for_good"), [("550 nobody here", True), ("451 later", False)])
def test_what_an_smtp_answer_means(answer: str, for_good: bool) -> None:
    with mailbox() as box:
        box.answer_to_recipient = answer
        with pytest.raises(UndeliveredError) as caught:
            Email("a@b.example", "127.0.0.1", port=box.port, encryption="none").deliver(told(), ORIGIN)
    assert caught.value.for_good is for_good


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Webhook("ftp://x/y"), "alerts.webhook: not an http or https address"),
        (lambda: Webhook("https://u:p@x/y"), "names a user or password"),
        (lambda: Webhook("http://there.example/x", Secret("t")), "in the clear"),
        (lambda: Webhook("https://x:port/"), "alerts.webhook: not an address"),
        (lambda: Webhook("https://x/a b"), "not an http"),
        (lambda: Push("https://x"), "names no topic"),
        (
            lambda: Email("a@b.example", "x", encryption="none", user=Secret("u"), password=Secret("p")),
            "in the clear",
        ),
        (lambda: Email("a@b.example", "x", user=Secret("u")), "go together"),
    ],
)
def test_what_cannot_be_meant_is_one_line(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_every_line_of_the_file_can_be_read_as_json(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    log = AlertLog(path)
    log.look(held(["disk"]), 0.0, S)
    log.end(2 * S)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines] == ["firing", "resolved"]
    assert subject.title_of(msgspec.convert(lines[0], Told), ORIGIN) == "EMP paper, warning: disk"


def test_what_was_said_and_cannot_be_read_silences_nothing(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.mkdir()
    log = AlertLog(path)
    assert not log.said
    assert [one.status for one in log.look(held(["disk"]), 0.0, S)] == ["firing"]
