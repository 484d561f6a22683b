"""A live start that the gates refuse while the account holds something: it closes that, and opens nothing.

Whatever refuses a model (green weeks that have become old, evidence or a key that is gone, a registry that cannot be
read, a model that was withdrawn or is not there, gates that were edited) refuses what would be opened. What is held is
a fact of the venue's, and must not be left where nobody watches it.
"""

from collections.abc import Sequence

from emp.app.wiring.governed import load_models
from emp.app.wiring.unfinished import account_of, unfinished_run, written_account_of
from emp.core.config.config import SystemConfig
from emp.core.errors import ArtifactError, ConfigError, GovernanceError
from emp.core.platform import say
from emp.engine.choose import load_model
from emp.engine.succession import Models
from emp.journal.account_file import AccountState, known_state


def models_to_start(config: SystemConfig) -> Models:
    """The models of a start, as `load_models` has them. Where it refuses them, and the account may hold something,
    those of a run that only closes: a run goes on with the model that it ended with, a new one has the shipped linear.

    Raises:
        EmpError: the models may not serve, and nothing is known to be held.
    """
    try:
        return load_models(config)
    except (GovernanceError, ArtifactError, ConfigError, OSError) as error:
        if config.mode != "live" or not may_hold(config):
            raise
        return Models(load_model("linear"), closing_only=str(error))


def may_hold(config: SystemConfig) -> bool:
    """Whether a live account has an unfinished run here, or its last one left a position; under a lease the machine
    before may have: that is known once the lease is.
    """
    if config.lease.redis is not None:
        return True
    if unfinished_run(config, config.instruments.names) is not None:
        return True
    return any(holds(known_state(one)) for one in (account_of(config), written_account_of(config)))


def holds(state: AccountState) -> bool:
    """Whether an account's last run left something held, or told and not borne out."""
    return any(one.position or one.claims for one in state.instruments.values())


def refuse_unless_held(models: Models, state: AccountState, *, continued: bool) -> None:
    """Raise GovernanceError where a run that may only close would begin, and there is nothing to close; else say it."""
    if not models.closing_only:
        return
    if not continued and not holds(state):
        raise GovernanceError(models.closing_only)
    say(f"emp: closing only: {models.closing_only}")


def refused_in_words(why: str, names: Sequence[str]) -> str:
    """What the page and the health of such a run say."""
    return f"closing only: what {', '.join(names)} holds is closed and nothing is opened: {why}"
