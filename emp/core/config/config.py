"""The one source of configuration: a YAML file, over which single environment variables may be set.

    SystemConfig.load(Path("examples/mock.yaml"))

The file comes first. `EMP_<FIELD>` or `EMP_<SECTION>__<FIELD>` overrides exactly that field, and only where
it is set and not empty. Every mistake ends in one line that names the path in the file, or the variable.
Numbers here are limits and facts; what can be learned or estimated from data has no place here. Credentials
are never configuration: see `emp.core.config.secrets`.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from emp.core.config import secrets
from emp.core.config.addresses import carries_password
from emp.core.config.config_source import (
    PREFIX,
    Environment,
    Origin,
    laid_over,
    one_line,
    origins,
    read_yaml,
    refuse_unknown_variables,
)
from emp.core.errors import ConfigError

Mode = Literal["mock", "observe", "paper", "live"]
Impl = Literal["linear", "mamba2", "mamba3"]
Standby = Literal["none", "linear", "mamba2"]
Protocol = Literal["fix", "ctrader", "recording", "kafka", "mock"]

DEFAULT_IMPL: Impl = "mamba3"
"""The shipped artifact that serves where nothing else is said."""

WARM_UP_EVENTS = 512
"""Burn-in B: size is 0 while a model's state is younger than so many events."""

COOL_DOWN_EVENTS = 128
"""Size is 0 for so many events after a halt, a gap, a pause or a flip of the session."""

PROTOCOLS_OF: dict[str, tuple[str, ...]] = {
    "mock": ("mock", "fix", "recording"),
    "observe": ("fix", "ctrader", "kafka"),
    "paper": ("fix", "ctrader", "recording", "kafka"),
    "live": ("fix", "ctrader"),
}
"""Which connection protocols make sense in a mode: mock never dials out (its FIX venue is its own, on loopback),
live never plays, and observe watches what is there.
"""


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _word(value: object) -> object:
    return value.lower().strip() if isinstance(value, str) else value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _recorded(value: object) -> object:
    """A path, or paths by name: told as one, where a union would tell what each of its members lacks."""
    files = value.values() if isinstance(value, dict) and value else [value]
    if value is not None and not all(isinstance(one, str | Path) for one in files):
        raise ValueError("must be a path, or of several instruments NAME: FILE for each")
    return value


# Bounds stand before the validator: only so the JSON schema of a field has them.
Count = Annotated[int, Field(gt=0, le=2**31 - 1), BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False), BeforeValidator(_number)]
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_number)]
Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Instruments(Section):
    """What is traded."""

    names: Annotated[tuple[Text, ...], Field(min_length=1)]  # names of the catalogue, each once
    catalogue: Path | None = None  # YAML that adds to or overrides the shipped catalogue


class Access(Section):
    """How the market is reached."""

    connection_protocol: Annotated[Protocol, BeforeValidator(_word)] = (
        "mock"  # how: see docs/configuration.md for what a mode takes
    )
    host: Text | None = None  # the venue's address
    port: Port | None = None  # FIX: the quote session; cTrader: the API
    trade_port: Port | None = None  # FIX: the trade session, where it has a port of its own
    dialect: Annotated[Text, BeforeValidator(_word)] = "fix44"  # FIX: how the venue speaks it
    symbols: dict[str, Text] = {}  # the venue's symbol of an instrument, where it is not its name
    tls: bool = True  # whether the connection is encrypted
    sender_comp_id: Text | None = None  # FIX: our name
    target_comp_id: Text | None = None  # FIX: the venue's name
    account: Text | None = None  # the account's number; cTrader: ctidTraderAccountId
    demo: bool | None = None  # True: only a demo account will do, False: only a live one; None: either
    reset_on_logon: bool | None = None  # FIX: numbers begin at 1 with each logon; None: as the dialect says
    reset_on_loss: bool = (
        False  # FIX: begin at 1 once where the venue counts otherwise; else that ends the run
    )
    cancel_on_disconnect: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,8}=[!-~]+)?$")] = (
        ""  # FIX: the venue's field of a logon, as TAG=VALUE, that asks it to withdraw our orders where we are lost
    )
    depth: bool = True  # cTrader: False where the symbols have no depth
    recording: Annotated[Path | dict[str, Path] | None, BeforeValidator(_recorded)] = (
        None  # the recorded file, with connection_protocol: recording; of several instruments NAME: FILE for each
    )
    speed: Positive = 1.0  # recorded seconds per second, for `recording` and `mock`
    kafka: Text | None = (
        None  # HOST:PORT of brokers, with commas between, that have the market data: with kafka, or fix in mode live
    )
    history_s: Annotated[
        float, Field(ge=0.0, le=604_800.0, allow_inf_nan=False), BeforeValidator(_number)
    ] = 0.0  # of the topic's past that a start reads to warm up; nothing is opened on what is older than stale_after_ms
    recorder_host: Text | None = (
        None  # host of recorders that alone are followed from kafka; None: in mode live access.host, else any
    )


class Model(Section):
    """Which forecaster serves, and which one takes over where it is too slow.

    `ssm_impl` and `fallback_impl` name shipped artifacts; `artifact` and `fallback_artifact` are folders and come
    before them: a kind given beside a folder is what the artifact there must be. Without either, the fallback is
    the next simpler kind that is shipped.
    """

    ssm_impl: Annotated[Impl, BeforeValidator(_word)] = DEFAULT_IMPL  # the shipped artifact that serves
    fallback_impl: Annotated[Standby | None, BeforeValidator(_word)] = (
        None  # the shipped artifact that stands by; None: the next simpler
    )
    artifact: Text | None = (
        None  # folder of an artifact that serves in its place, net.onnx, or a model of your own: file.py:object
    )
    fallback_artifact: Text | None = None  # folder of an artifact that stands by
    challenger: Text | None = None  # folder, or kind of a shipped one, of a model to be compared with it
    monitor: bool = True  # whether inputs are held against the training, and the model against others
    registry: Path | None = None  # of promoted models: its default serves where none is named; live needs it
    state_ttl_s: Positive = (
        60.0  # market time after which a state that saw no believable book starts from zero
    )
    p99_ms: Positive = 0.35  # the model's time per event that the fallback is there for
    total_p99_ms: Positive = 0.85  # the whole decision's, book to row


class Risk(Section):
    """Hard limits, per instrument. Money is in ticks times lots."""

    max_position_lots: Count = 10  # held at most, either way
    max_order_lots: Count = 5  # of one order at most
    max_daily_loss_ticks: Positive = (
        2_000.0  # of the day, fees included: then everything is closed and halted
    )
    max_drawdown_ticks: Positive = 2_000.0  # below the highest PnL: then everything is closed and halted
    max_orders_per_minute: Count = 120  # new orders and replacements
    max_turnover_per_minute_lots: Count = 200  # sent within a minute
    max_turnover_per_hour_lots: Count = 4_000  # sent within an hour
    stale_after_ms: Positive = 5_000.0  # without a believable book, nothing is opened
    depth_share: Annotated[float, Field(gt=0, le=1.0, allow_inf_nan=False), BeforeValidator(_number)] = (
        0.02  # of the L1 depth percentile that one order may take
    )


class Breakers(Section):
    """What bars opening for a while, over all instruments; closing goes on. See docs/reliability.md."""

    rejects: Count = 20  # of new orders, by the venue, within the window
    reject_window_s: Positive = 60.0  # in which they are counted
    reject_pause_s: Positive = 300.0  # or until resume
    answer_s: Positive = 1.0  # from an order to the venue's first word on it
    decision_p99_ms: Positive = 5.0  # of the newest thousand decisions
    cool_down_s: Positive = (
        10.0  # after late answers or decisions; doubled, up to eight times, while they stay late
    )


class Account(Section):
    """Limits over all instruments together, in the account's currency; see docs/operations.md. None: no limit."""

    currency: Text | None = None  # of the account; needed with any of its limits
    max_gross_exposure: Positive | None = None  # sum of the sizes of all positions, either way
    max_net_exposure: Positive | None = None  # size of their sum
    max_daily_loss: Positive | None = None  # of the day, over all instruments
    halt_at: Annotated[float, Field(ge=1.0, le=100.0, allow_inf_nan=False), BeforeValidator(_number)] = (
        1.25  # multiple of an exposure limit, reached by prices alone, at which everything is closed
    )
    rates: Path | None = (
        None  # YAML of currency: what a unit is worth, where no instrument of the run says it
    )
    rate_max_age_s: Positive = 3_600.0  # after which a rate says nothing, and nothing is opened
    min_margin_level: (
        Annotated[float, Field(ge=1.0, le=1e9, allow_inf_nan=False), BeforeValidator(_number)] | None
    ) = None  # least equity over used margin at which anything is opened
    equity: Positive | None = (
        None  # at the start, in the account's currency, where the venue does not state it
    )
    margin_max_age_s: Positive = (
        60.0  # after which what the venue stated of margin says nothing: nothing is opened
    )


class Decision(Section):
    """What decides."""

    rule: Text | None = None  # of the user's own, as module:function or file.py:function; not in mode live
    planner: Text | None = (
        None  # folder of a planner (emp plan train) that looks ahead in the rule's place; not in mode live
    )
    planner_budget_ms: Positive = (
        0.5  # of a search; three over it within a thousand, and the rule decides alone
    )


class OpenBB(Section):
    """What OpenBB's providers are asked for over a network (extra `context`), in live runs alone: what is named."""

    calendar: Text | None = (
        None  # provider of macro events that tells their importance: fmp, tradingeconomics
    )
    volatility: Text | None = None  # of the VIX: cboe, fmp
    earnings: Text | None = None  # nasdaq, fmp
    every_hours: Positive = 6.0  # between two questions to one of them
    max_age_hours: Positive = 24.0  # after which an answer says nothing: the safe side, 0.3
    timeout_s: Positive = 30.0  # of one question

    @property
    def asked(self) -> bool:
        """Whether any is."""
        return any((self.calendar, self.volatility, self.earnings))


class Context(Section):
    """What multiplies size besides evidence and limits: see docs/context.md."""

    enabled: bool = True  # False: size is multiplied by 1
    shipped: bool = True  # the recurring events that ship with the package
    calendar: Path | None = None  # YAML of the owner's own events
    volatility: Path | None = None  # csv of time,value of a volatility index
    volatility_above: Positive = 35.0  # from there on size is multiplied by 0.3
    volatility_max_age_hours: Positive = 96.0  # after which a value says nothing: the safe side, 0.3
    openbb: OpenBB = OpenBB()


class Bus(Section):
    """When market data counts as piling up."""

    queue_bound: Annotated[int, Field(ge=8, le=1 << 18), BeforeValidator(_number)] = (
        4_096  # events per instrument
    )
    max_age_ms: Positive = 250.0  # of the oldest event that waits


class Http(Section):
    """Where `/health`, `/metrics` and the console are served."""

    host: Text = "127.0.0.1"  # address that is listened on
    port: Port = 8787  # 0 takes any free one
    expose: bool = (
        False  # must be true for an address that other machines can reach; everything needs a login then
    )
    token_file: Path | None = (
        None  # of a token of your own, for logins and controls; None: one is made per run
    )


class Alerts(Section):
    """Who is told when something is wrong, besides whoever looks: see docs/alerts.md."""

    webhook: Text | None = None  # address that takes a POST of JSON
    push: Text | None = None  # topic of a push service that speaks as ntfy does, as https://HOST/TOPIC
    email: Text | None = None  # address that is written to
    smtp_host: Text | None = None  # mail server that takes them; goes with email
    smtp_port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(_number)] | None = (
        None  # None: 465, 587 or 25, as the encryption has it
    )
    smtp_encryption: Annotated[Literal["tls", "starttls", "none"], BeforeValidator(_word)] = (
        "tls"  # from the first byte, after a greeting, or not at all
    )
    smtp_from: Text | None = None  # None: the address that is written to


class Journal(Section):
    """How the action log is written; the ledger is always synced before a send."""

    flush_seconds: Annotated[float, Field(gt=0, le=600.0, allow_inf_nan=False), BeforeValidator(_number)] = (
        60.0  # longest time that a row of the action log waits in memory
    )
    keep_gb: Positive | None = (
        None  # GB that all runs in run_dir may take: the oldest that ended in order give way; None: nothing does
    )


class Heartbeat(Section):
    """Who is told every second, on another machine, that the engine lives."""

    to: Text | None = None  # HOST:PORT at which `emp watch` listens; None: nobody


class Lease(Section):
    """The right to trade an account's instruments, where several engines may: see docs/operations.md. In mode live."""

    redis: Text | None = None  # redis://HOST:PORT/DB, without password; None: this engine is the only one
    term_s: Annotated[float, Field(ge=0.5, le=600.0, allow_inf_nan=False), BeforeValidator(_number)] = (
        5.0  # after which another engine may take over from one that says nothing; the same on all of them
    )
    margin_s: (
        Annotated[float, Field(ge=0.0, le=60.0, allow_inf_nan=False), BeforeValidator(_number)] | None
    ) = None  # before its end, from which nothing leaves any more; None: a tenth of the term
    wait: bool = True  # stand by while another engine holds it; False: refuse to start


class Mirrors(Section):
    """Services that `emp mirror` carries runs to (docs/mirrors.md); None: not to that one."""

    kafka: Text | None = None  # HOST:PORT of brokers, with commas between
    timescale: Text | None = (
        None  # database as libpq names it, without password: a URL, or host=... dbname=...
    )
    redis: Text | None = None  # redis://HOST:PORT/DB, without password


class SystemConfig(BaseSettings):
    """Everything a run is told; see the sections for units."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    mode: Annotated[Mode, BeforeValidator(_word)]  # mock, paper, live, or observe: record, trade nothing
    run_dir: Path = Path("runs")  # where run folders are made
    seed: Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_number)] = (
        0  # of everything random: the same seed, the same choices
    )
    warm_up_events: Annotated[int, Field(ge=0, le=2**31 - 1), BeforeValidator(_number)] = (
        WARM_UP_EVENTS  # no size while a model's state is younger
    )
    cool_down_events: Annotated[int, Field(ge=0, le=2**31 - 1), BeforeValidator(_number)] = (
        COOL_DOWN_EVENTS  # no size for so many after a halt, a gap, a pause or a flip of the session
    )
    instruments: Instruments
    access: Access = Access()
    model: Model = Model()
    decision: Decision = Decision()
    risk: Risk = Risk()
    breakers: Breakers = Breakers()
    account: Account = Account()
    context: Context = Context()
    bus: Bus = Bus()
    http: Http = Http()
    alerts: Alerts = Alerts()
    journal: Journal = Journal()
    heartbeat: Heartbeat = Heartbeat()
    lease: Lease = Lease()
    mirrors: Mirrors = Mirrors()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what is passed in; `load` is where file and environment meet."""
        return (init_settings,)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file, lay the environment over it, check both; raise ConfigError with one line."""
        in_file = read_yaml(path)
        refuse_unknown_variables(cls)
        try:
            in_environment = Environment(cls)()
        except ValueError as error:
            raise ConfigError(f"environment: {error.args[0]}") from None
        try:
            return cls(**laid_over(in_file, in_environment))
        except ValidationError as error:
            raise ConfigError(one_line(error, cls, path, in_environment)) from None

    def origins(self, path: Path) -> dict[str, Origin]:
        """Every field by its dotted name: its value, and where it comes from. `path` is what `load` was given."""
        return origins(self, path, read_yaml(path), Environment(type(self))())

    @property
    def recordings(self) -> list[Path]:
        """The recorded file of each instrument, in their order; empty where none is played."""
        recorded = self.access.recording
        if isinstance(recorded, dict):
            return [recorded[name] for name in self.instruments.names]
        return [] if recorded is None else [recorded]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = list(_contradictions(self))
        if found:
            raise ValueError("; ".join(found))
        return self

    def missing(self, credentials: Mapping[str, secrets.Secret]) -> list[str]:
        """Names of everything that this mode needs and that is not given: fields first, then credentials."""
        if self.mode == "mock" or self.access.connection_protocol not in secrets.NEEDED:
            return []
        needed = {
            "fix": ("host", "port", "sender_comp_id", "target_comp_id"),
            "ctrader": ("host", "port", "account"),
        }[self.access.connection_protocol]
        fields = [f"access.{name}" for name in needed if getattr(self.access, name) is None]
        return fields + list(secrets.missing_secrets(self.access.connection_protocol, credentials))

    def credentials(self, source: str = "configuration") -> dict[str, secrets.Secret]:
        """Return the credentials, by name; raise ConfigError that names every missing one at once.

        Mock mode neither looks for credentials nor opens the secrets file.
        """
        if self.mode == "mock":
            return {}
        found = secrets.load_secrets()
        lacking = self.missing(found)
        if lacking:
            over = self.access.connection_protocol
            raise ConfigError(
                f"{source}: mode {self.mode} over {over} needs {', '.join(lacking)}"
                f" (credentials come from the environment or the file that {secrets.SECRETS_FILE} names)"
            )
        return found


def _contradictions(config: SystemConfig) -> Iterable[str]:
    """Pairs of values that cannot both be meant."""
    access, risk, http = config.access, config.risk, config.http
    allowed = PROTOCOLS_OF[config.mode]
    if access.connection_protocol not in allowed:
        yield (
            f"access.connection_protocol: {access.connection_protocol} contradicts mode: {config.mode}"
            f" (which takes {', '.join(allowed)})"
        )
    if (access.connection_protocol == "recording") != (access.recording is not None):
        yield "access.recording: must be given with connection_protocol: recording, and only then"
    else:
        yield from _unlike_instruments(access, config.instruments.names)
    if access.speed != 1.0 and access.connection_protocol in ("fix", "ctrader") and config.mode != "mock":
        yield "access.speed: a real market cannot be sped up; remove it"
    yield from _of_kafka(config)
    yield from _other_accounts(access)
    for name in Mirrors.model_fields:
        if carries_password(getattr(config.mirrors, name) or ""):
            yield f"mirrors.{name}: a password has no place in an address: docs/mirrors.md says where it goes"
    yield from _of_the_lease(config)
    account = config.account
    limits = (
        account.max_gross_exposure,
        account.max_net_exposure,
        account.max_daily_loss,
        account.min_margin_level,
    )
    if any(limits) and account.currency is None:
        yield "account.currency: must be given where the account has limits"
    if config.model.fallback_impl == "none" and config.model.fallback_artifact is not None:
        yield "model.fallback_artifact: contradicts fallback_impl: none"
    if config.model.artifact is None and config.model.fallback_impl == config.model.ssm_impl:
        yield f"model.fallback_impl: {config.model.fallback_impl} is what serves already (model.ssm_impl)"
    if config.model.p99_ms > config.model.total_p99_ms:
        yield f"model.p99_ms: {config.model.p99_ms:g} is above model.total_p99_ms: {config.model.total_p99_ms:g}"
    if risk.max_order_lots > risk.max_position_lots:
        yield (
            f"risk.max_order_lots: {risk.max_order_lots} is above"
            f" risk.max_position_lots: {risk.max_position_lots}"
        )
    if risk.max_turnover_per_minute_lots > risk.max_turnover_per_hour_lots:
        yield (
            f"risk.max_turnover_per_minute_lots: {risk.max_turnover_per_minute_lots} is above"
            f" risk.max_turnover_per_hour_lots: {risk.max_turnover_per_hour_lots}"
        )
    if len(set(config.instruments.names)) != len(config.instruments.names):
        yield "instruments.names: a name stands there twice"
    if (config.alerts.email is None) != (config.alerts.smtp_host is None):
        yield "alerts.email, alerts.smtp_host: go together"
    if not http.expose and not _loopback(http.host):
        yield (
            f"http.host: {http.host} can be reached from other machines;"
            " use 127.0.0.1, or set http.expose: true"
        )
    if http.expose and http.token_file is None:
        yield (
            "http.token_file: must be given with http.expose: a file that you alone can read, with the token that"
            " everybody shows who reads or controls the run from another machine"
        )


def _unlike_instruments(access: Access, names: tuple[str, ...]) -> Iterable[str]:
    """Recorded files that are not one for each instrument."""
    recorded = access.recording
    if isinstance(recorded, Path) and len(names) > 1:
        yield f"access.recording: name a file for each instrument, as in '{names[0]}: FILE'"
    elif isinstance(recorded, dict) and set(recorded) != set(names):
        yield f"access.recording: has files of {', '.join(recorded)}, instruments.names are {', '.join(names)}"


def _of_kafka(config: SystemConfig) -> Iterable[str]:
    """Market data from Kafka go with orders on paper, or over a FIX session in mode live."""
    access = config.access
    protocol = access.connection_protocol
    if protocol == "kafka" and access.kafka is None:
        yield "access.kafka: must be given with connection_protocol: kafka"
    if access.kafka is not None and protocol != "kafka" and (config.mode, protocol) != ("live", "fix"):
        yield (
            f"access.kafka: contradicts mode: {config.mode} over {protocol}: market data from Kafka go with"
            " connection_protocol: kafka, or with fix in mode live"
        )
    if access.recorder_host is not None and access.kafka is None:
        yield "access.recorder_host: must be given with access.kafka alone: nothing else has recorders"
    if access.history_s and access.kafka is None:
        yield "access.history_s: must be given with access.kafka alone: nothing else has a past"


def _of_the_lease(config: SystemConfig) -> Iterable[str]:
    lease = config.lease
    if carries_password(lease.redis or ""):
        yield "lease.redis: a password has no place in an address: EMP_REDIS_PASSWORD holds it"
    if lease.redis is not None and config.mode != "live":
        yield f"lease.redis: contradicts mode: {config.mode}: only a live account can be traded by two engines"
    if lease.margin_s is not None and lease.margin_s > lease.term_s / 3:
        yield f"lease.margin_s: {lease.margin_s:g} is above a third of lease.term_s: {lease.term_s:g}"


def _other_accounts(access: Access) -> Iterable[str]:
    """Addresses and names that say `live` or `demo` in themselves, as brokers write them, where the other is meant."""
    if access.demo is None:
        return
    other = "live" if access.demo else "demo"
    for name in ("host", "sender_comp_id"):
        value = getattr(access, name) or ""
        if other in re.split(r"[^a-z]+", value.lower()):
            allowed = str(access.demo).lower()
            yield f"access.{name}: {value} is one of {other} accounts, which access.demo: {allowed} rules out"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
