"""A rule of one's own by its name: `module:object`, or `file.py:object`."""

from collections.abc import Mapping
from pathlib import Path

from emp.core.config.config import SystemConfig
from emp.core.errors import ConfigError, EmpError, JournalError, UsageError
from emp.engine.named import load_object
from emp.engine.own import Rule, make_rule
from emp.engine.planning import PlannedRule
from emp.plan.artifact import load_planner


def own_rule(config: SystemConfig) -> Rule | None:
    """The rule that a configuration names; None where the built-in one decides.

    Raises:
        ConfigError: money is at stake: a rule that no gate has seen decides on paper alone; or as `load_rule`.
    """
    name = config.decision.rule
    if config.decision.planner is not None:
        return planned_rule(config)
    if name is None:
        return None
    if config.mode not in ("mock", "paper"):
        raise ConfigError(
            f"decision.rule: mode {config.mode}: a rule of your own trades in mock and paper only"
        )
    return load_rule(name)


def planned_rule(config: SystemConfig, kept: Path | None = None) -> PlannedRule:
    """The planner that a configuration names, or the copy of it that a run has kept.

    Raises:
        ConfigError: a rule is named too, or money is at stake.
        ArtifactError: it cannot be read.
    """
    decision = config.decision
    assert decision.planner is not None
    if decision.rule is not None:
        raise ConfigError("decision.planner: decision.rule is named too: one of the two decides")
    if config.mode not in ("mock", "paper"):
        raise ConfigError(f"decision.planner: mode {config.mode}: a planner trades in mock and paper only")
    return PlannedRule(load_planner(kept or Path(decision.planner)), decision.planner_budget_ms)


def recorded_rule(config: SystemConfig, described: Mapping[str, str] | None, kept: Path) -> Rule | None:
    """The rule that decided in a recorded run; of a planner the copy that lies in `kept`, where the run has kept one.

    Raises:
        JournalError: it is gone, or is not the one that decided then.
    """
    if described is None:
        return None
    try:
        copied = config.decision.planner is not None and kept.is_dir()
        rule = planned_rule(config, kept) if copied else own_rule(config)
    except EmpError as error:
        raise JournalError(f"{_whose(config)} decided, {described['name']}: {error}") from error
    if rule is None or (rule.hash, rule.values) != (
        described["sha256"],
        described.get("values", rule.values),  # an earlier build looked at the rule's file alone
    ):
        raise JournalError(f"{_whose(config)} decided, {described['name']}, and it has changed since")
    return rule


def _whose(config: SystemConfig) -> str:
    return "a rule of your own" if config.decision.planner is None else "a planner"


def load_rule(name: str) -> Rule:
    """The function or `Rule` that a name stands for; modules are looked for in the working folder too.

    Raises:
        UsageError: in one line: there is no such module or object, it cannot be imported, or is no rule.
    """
    wanted, found = name.rpartition(":")[2], load_object(name, "--rule")
    if not callable(found) and not isinstance(found, Rule):
        raise UsageError(f"--rule {name}: {wanted} is a {type(found).__name__}, no function and no emp.Rule")
    return make_rule(found).fresh()
