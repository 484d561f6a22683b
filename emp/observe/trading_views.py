"""Parts of a view that tell of trading: fills, forecasts and what came of them, limits, what the owner asked for."""

import msgspec


class FillView(msgspec.Struct, frozen=True, kw_only=True):
    """One fill of ours. Prices in ticks, values in ticks per lot."""

    n: int  # counts the run's fills from 1, as this process has seen them
    ts: int
    order: str
    side: int
    qty: int
    px: int
    fee_ticks: float  # of the whole fill, ticks times lots
    maker: bool
    reason: str = ""  # why the order was sent
    expected_ticks: float | None = None  # what a lot was believed to bring when the order was decided
    realised_ticks: float | None = (
        None  # side * (mid 2 s after the fill - price) - fee; None until it is known
    )


class HorizonView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest forecast at one horizon: moves of the mid in ticks, and the shares of the three classes."""

    low: float  # quantile 0.25
    median: float
    high: float  # quantile 0.75
    mean: float
    down: float
    flat: float
    up: float


class OutcomeView(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast whose time has come: where the mid was expected at `due`, and where it was. All in ticks."""

    n: int  # counts from 1
    ts: int  # when it was made
    due: int
    low: float
    median: float
    high: float
    came: float


class CalibrationView(msgspec.Struct, frozen=True, kw_only=True):
    """How often what came lay where one horizon's quantiles said."""

    outcomes: int
    inside: float  # share between the quantiles 0.25 and 0.75; 0.5 is calibrated
    below: float  # share below the quantile 0.25
    above: float
    brier: float  # squared error of the three shares, mean over classes, in [0, 1]


class LimitView(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a limit is used."""

    name: str
    value: float
    limit: float
    unit: str


class ControlView(msgspec.Struct, frozen=True, kw_only=True):
    """Something the owner asked for, and how long it took until nothing was held or could still fill."""

    n: int  # counts from 1
    action: str
    reason: str
    instrument: str
    at_ns: int
    flat_ms: float | None = None  # None: not flat yet, or the action does not close
