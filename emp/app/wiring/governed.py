"""Which models a run may serve, as the registry says: the promoted one, or on paper another one named on purpose."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.errors import ArtifactError, ConfigError, GovernanceError
from emp.core.platform import say
from emp.engine.choose import load_model, load_serving, load_standby
from emp.engine.control_socket import goes_on
from emp.engine.load import LoadedModel, load_folder
from emp.engine.named import is_own
from emp.engine.succession import Models
from emp.governance.gates import read_gates
from emp.governance.registry import Registry
from emp.governance.serve import Market, lacks_promotion, lacks_standby, refuse_live

CANDIDATE = "candidate"


def load_models(config: SystemConfig) -> Models:
    """The model that serves, the one that stands by, and what the registry says of each.

    Where the configuration names a registry and no model, the one tagged APPROVED_DEFAULT serves. On paper another one
    may be named; it is marked as a candidate. Live takes nothing but the promoted one, once two green weeks on paper
    are on record, and lets nothing stand by of which that is not so.

    Raises:
        GovernanceError: live, and the model may not; or what the registry holds is not what was signed.
        ArtifactError: a model cannot be used.
    """
    _refuse_own_code(config)
    home = config.model.registry
    if home is None:
        if config.mode == "live":
            raise GovernanceError(
                "live: model.registry names no registry, and only a promoted model may trade"
            )
        serving = load_serving(config.model)
        standby = load_standby(config.model, serving)
        marked = config.mode == "paper" or serving.owner is not None
        standing_of = _marks(serving, standby, {}) if marked else {}
        return Models(serving, standby, *_compared(config, None, serving), standing=standing_of)
    registry = Registry(home, LiveClock())
    standing = registry.standing()
    named = config.model.artifact is not None or "ssm_impl" in config.model.model_fields_set
    if named or not standing.default:
        serving = load_serving(config.model)
    else:
        serving = load_folder(registry.folder(standing.default))
    standby = load_standby(config.model, serving)
    if config.mode == "live":
        _refuse_unwatched(config)
        market = Market(config.access.connection_protocol, config.instruments.names)
        going = partial(_goes_on, config.run_dir)
        signed = registry.store.signed()
        refuse_live(home, serving.artifact.hash, LiveClock(), *market, going, signed)
        if standby is not None:
            why = lacks_standby(registry, standby.artifact.hash, LiveClock(), market, going, signed)
            if why:
                say(f"emp: {why}: nothing stands by")
                standby = None
    compared = _compared(config, registry, serving)
    return Models(serving, standby, *compared, standing=_marks(serving, standby, standing.status))


def _refuse_own_code(config: SystemConfig) -> None:
    """ConfigError where a model of the user's own would trade money, or stand by: no gate can have seen it."""
    if config.mode in ("mock", "paper"):
        return
    for field in ("artifact", "fallback_artifact"):
        name = getattr(config.model, field)
        if name is not None and is_own(name):
            raise ConfigError(
                f"model.{field}: mode {config.mode}: a model of your own trades in mock and paper only"
            )


def _refuse_unwatched(config: SystemConfig) -> None:
    """GovernanceError where a model would trade money otherwise than it was judged, or could not go back by itself: it
    is not watched, or may be slower than the gates have it.
    """
    model, most = config.model, read_gates().gates.latency_p99_ms
    if not model.monitor:
        raise GovernanceError("live: model.monitor is false: what serves must be watched while it trades")
    for name, limit in (("p99_ms", most.model), ("total_p99_ms", most.total)):
        mine = getattr(model, name)
        if mine > limit:
            raise GovernanceError(f"live: model.{name}: {mine:g} ms is above the {limit:g} ms of the gates")
    judged = type(model).model_fields["state_ttl_s"].default
    if model.state_ttl_s != judged:
        raise GovernanceError(f"live: model.state_ttl_s is not the {judged:g} s by which models are judged")


def _goes_on(runs: Path, run: str) -> bool:
    """Whether a paper run of this machine is going on."""
    return goes_on(runs / f"paper-{run}")


def refuse_unpromoted(config: SystemConfig, model: str) -> None:
    """Raise GovernanceError where a run trades live and its registry does not say of a model that it may: it was
    withdrawn, or was never promoted by this release's gates.
    """
    if config.mode == "live" and config.model.registry is not None:
        why = lacks_promotion(Registry(config.model.registry, LiveClock()), model)
        if why:
            raise GovernanceError(f"live: {why}")


def _compared(
    config: SystemConfig, registry: Registry | None, serving: LoadedModel
) -> tuple[LoadedModel | None, LoadedModel | None]:
    """The challenger and the linear baseline, which forecast beside the model that serves and decide nothing. Where no
    challenger is named, it is the newest candidate of the registry.
    """
    if not config.model.monitor:
        return None, None
    named = config.model.challenger
    challenger = None
    try:
        if named is not None:
            challenger = load_model(named)
        elif registry is not None:
            challenger = _newest_candidate(registry, serving)
    except ArtifactError as error:
        raise ArtifactError(f"model.challenger: {error}") from error
    return challenger, load_model("linear")


def _newest_candidate(registry: Registry, serving: LoadedModel) -> LoadedModel | None:
    """The candidate that was registered last, other than the model that serves; None where there is none, or where it
    cannot be used: nobody has named it, so what serves does not wait for it.
    """
    status = registry.standing().status
    candidates = [model for model, said in status.items() if said == CANDIDATE]
    others = [model for model in candidates if model != serving.artifact.hash]
    if not others:
        return None
    try:
        return load_folder(registry.folder(others[-1]))
    except ArtifactError as error:
        say(f"emp: the newest candidate is no challenger: {error}")
        return None


def _marks(serving: LoadedModel, standby: LoadedModel | None, status: Mapping[str, str]) -> dict[str, str]:
    """What is said of each model, by hash."""
    hashes = [one.artifact.hash for one in (serving, standby) if one is not None]
    return {name: str(status.get(name, CANDIDATE)) for name in hashes}
