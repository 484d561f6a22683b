"""From a configuration to the doors to a venue: the same settings for whoever goes through them, and how far it may."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from emp.access.port import MarketFeed, Reach
from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret
from emp.core.errors import ConfigError

if TYPE_CHECKING:
    from emp.access.ctrader.access import CTraderAccess
    from emp.access.ctrader.settings import Settings
    from emp.access.fix.client import FixAccess
    from emp.access.fix.settings import FixSettings
    from emp.access.kafka.feed import KafkaFeed
    from emp.app.wiring.tokens import TokenFile


_PATIENCE_S = 180.0
"""How long an engine that has taken over waits for the venue to miss the heartbeats of the one before, and end its
session: two and a half heartbeats of a minute, and some.
"""


def ctrader_settings(
    config: SystemConfig, credentials: Mapping[str, Secret], reach: Reach
) -> tuple["Settings", "TokenFile"]:
    """The Open API's settings, and where renewed tokens are kept."""
    from emp.access.ctrader.settings import Credentials, Settings
    from emp.app.wiring.tokens import TokenFile

    access = config.access
    assert access.account is not None
    if not access.account.isdigit():
        raise ConfigError(f"access.account: a cTrader account is a number, was {access.account!r}")
    known = Credentials(
        client_id=credentials["EMP_CTRADER_CLIENT_ID"],
        client_secret=credentials["EMP_CTRADER_CLIENT_SECRET"],
        access_token=credentials["EMP_CTRADER_ACCESS_TOKEN"],
        refresh_token=credentials.get("EMP_CTRADER_REFRESH_TOKEN"),
    )
    tokens = TokenFile(config.run_dir / f"ctrader-{access.account}.tokens", known)
    settings = Settings(
        account=int(access.account), depth=access.depth, seed=config.seed, reach=reach, demo=access.demo
    )
    return settings, tokens


def open_ctrader(
    config: SystemConfig, credentials: Mapping[str, Secret], clock: Clock, reach: Reach = Reach.ORDERS
) -> "CTraderAccess":
    """The Open API."""
    from emp.access.ctrader.access import CTraderAccess

    access = config.access
    assert access.host is not None
    assert access.port is not None
    settings, tokens = ctrader_settings(config, credentials, reach)
    return CTraderAccess(
        settings, tokens.newest(), host=access.host, port=access.port, clock=clock, keep_tokens=tokens.keep
    )


def fix_settings(
    config: SystemConfig, credentials: Mapping[str, Secret], reach: Reach, *, timeout_s: float = 10.0
) -> "FixSettings":
    """The settings of a FIX venue; `timeout_s` is for a connection, a logon, an answer."""
    from emp.access.fix.dialect import dialect
    from emp.access.fix.settings import FixSettings

    access = config.access
    assert access.host is not None
    assert access.port is not None
    assert access.sender_comp_id is not None
    assert access.target_comp_id is not None
    return FixSettings(
        host=access.host,
        port=access.port,
        sender=access.sender_comp_id,
        target=access.target_comp_id,
        dialect=dialect(access.dialect),
        trade_port=access.trade_port,
        tls=access.tls,
        account=access.account or "",
        symbols=access.symbols,
        username=credentials["EMP_FIX_USERNAME"],
        password=credentials["EMP_FIX_PASSWORD"],
        store=config.run_dir / "fix-sequence",
        reset_on_logon=access.reset_on_logon,
        reset_on_loss=access.reset_on_loss,
        cancel_on_disconnect=access.cancel_on_disconnect,
        reach=reach,
        timeout_s=timeout_s,
        patience_s=_PATIENCE_S if config.lease.redis is not None else 0.0,
    )


def open_fix(
    config: SystemConfig, credentials: Mapping[str, Secret], clock: Clock, reach: Reach = Reach.ORDERS
) -> "FixAccess":
    """A FIX venue, its market data from Kafka where the configuration names one."""
    from emp.access.fix.client import FixAccess

    quotes = open_kafka(config, clock) if config.access.kafka is not None and reach is Reach.ORDERS else None
    return FixAccess(fix_settings(config, credentials, reach), clock, quotes=quotes)


def open_kafka(config: SystemConfig, clock: Clock) -> "KafkaFeed":
    """The market data of a Kafka: in mode live of recorders of the orders' host, unless it names another."""
    from emp.access.kafka.feed import KafkaFeed
    from emp.access.kafka.reader import KafkaReader  # an extra, which who has no Kafka need not have

    access = config.access
    assert access.kafka is not None
    return KafkaFeed(
        partial(KafkaReader, access.kafka),
        clock,
        limit_ms=config.risk.stale_after_ms,
        history_s=access.history_s,
        host=access.recorder_host or (access.host if config.mode == "live" else None),
    )


def open_feed(config: SystemConfig, credentials: Mapping[str, Secret], clock: Clock) -> MarketFeed:
    """The market data of a venue: no trade session, and no way to make an order."""
    from emp.access.feed import Feed

    if config.access.connection_protocol == "kafka":
        return open_kafka(config, clock)
    over = open_ctrader if config.access.connection_protocol == "ctrader" else open_fix
    return Feed(over(config, credentials, clock, Reach.MARKET))
