"""A model of your own, trained and traded: python examples/own_model.py [RECORDING INSTRUMENT]

Ridge regression on the inputs of the built-in models and one of its own: fitted on the first two thirds of a market (a
simulated one without a recording), traded on the rest, beside the shipped linear model.
"""

import sys

import numba
import numpy as np

import emp

PENALTY = 10.0


@numba.njit
def pressure(seen, own, mine):
    """What has traded of late, signed, in units of the touch."""
    mine[0] = 0.9 * mine[0] + seen.trade_qty / (seen.bid_sz[0] + seen.ask_sz[0])
    own[0] = mine[0]


FEATURES = emp.Features(pressure, ["pressure"], memory=1)


def columns(market):
    """What a model is shown of a market: float[n, inputs]."""
    return emp.inputs(market, features=FEATURES).to_pandas().to_numpy().astype(float)


def outcomes(market):
    """Where the mid went: float[n, horizons]. NaN where the market ends, or its stream breaks, before it is known."""
    labels = emp.labels(market).to_pandas()
    return labels[[f"delta_hat_{name}" for name in emp.HORIZONS]].to_numpy()


def fit(market):
    """Weights float[inputs, horizons]."""
    x, y = columns(market), outcomes(market)
    known = ~np.isnan(y).any(axis=1)
    x, y = x[known], y[known]
    return np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ y)


def model_of(weights, trained_on):
    """The weights as a model."""

    @numba.njit
    def ridge(x, forecast):
        for h in range(weights.shape[1]):
            mean = 0.0
            for k in range(len(x)):
                mean += x[k] * weights[k, h]
            forecast.mean[h] = mean

    return emp.Model(ridge, features=FEATURES, trained_on=trained_on)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        market = emp.load(sys.argv[1], sys.argv[2])
    else:
        market = emp.simulate("goog", "GOOG", events=60_000, seed=4)
    edge = len(market) * 2 // 3
    train, rest = market[:edge], market[edge:]
    weights = fit(train)
    said, came = columns(rest) @ weights, outcomes(rest)
    for h, name in enumerate(emp.HORIZONS):
        known = ~np.isnan(came[:, h])
        skill = np.corrcoef(said[known, h], came[known, h])[0, 1]
        print(f"{name:>6}: correlation of forecast and outcome {skill:+.3f} where it was not trained")
    for name, model in {"linear": "linear", "ridge": model_of(weights, train)}.items():
        result = emp.backtest(rest, model=model)
        print(name, result)
    result.plot("own_model.png")
