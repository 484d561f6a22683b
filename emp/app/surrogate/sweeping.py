"""`emp surrogate sweep`: many agents in a surrogate that passed, and those that look best in the simulator too."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from emp.app.surrogate.worlds import learned, market_place, simulator
from emp.core.ids import generator
from emp.core.records import Array
from emp.league.seats import LEARNED, WEIGHTS, first_weights, seat
from emp.league.yardsticks import EXPLORED, LIMIT, SIZE
from emp.sim.surrogate.artifact import load_passed
from emp.sim.surrogate.control import Controlled, control_variate
from emp.sim.surrogate.equivalence import markouts


class Swept(msgspec.Struct, frozen=True):
    """An agent: its number, ticks times lots an episode in the surrogate, and in the simulator."""

    agent: int
    surrogate: float
    controlled: Controlled


def sweep(
    folder: Path, agents: int, best: int, episodes: int, seed: int, progress: Callable[[str, float], None]
) -> list[Swept]:
    """Play `agents` drawn agents in the surrogate, and the `best` of them also in the simulator, in pairs.

    Raises:
        ArtifactError: the surrogate did not pass its validator, or was never judged.
    """
    surrogate = load_passed(folder)
    place = market_place(surrogate.manifest.market, seed, "sweep")
    play, truth = learned(place, surrogate), simulator(place)
    players = [_agent(k, seed) for k in range(agents)]
    made: list[Array] = []
    for k, me in enumerate(players):
        progress(f"agent {k + 1} of {agents}", 0.5 * k / agents)
        made.append(markouts(play(me, episodes, seed))[0])
    order = sorted(range(agents), key=lambda k: -float(made[k].mean()))[:best]
    out = []
    for i, k in enumerate(order):
        progress(f"simulator, {i + 1} of {best}", 0.5 + 0.5 * i / best)
        few = max(10, episodes // 10)
        true = markouts(truth(players[k], few, seed))[0]
        fresh = markouts(play(players[k], few + episodes, seed + 1))[0]  # what chose the agent flatters it
        out.append(Swept(k, float(made[k].mean()), control_variate(true, fresh[:few], fresh[few:])))
    return out


def _agent(k: int, seed: int) -> Array:
    rng = generator(seed, "sweep", k)
    weights = first_weights() + rng.normal(0.0, EXPLORED, WEIGHTS)
    return seat(LEARNED, weights=weights, size=SIZE, limit=LIMIT)
