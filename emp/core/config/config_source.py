"""Where configuration comes from: a YAML file, variables over it, and one line for every mistake.

Serves `emp.core.config.config`, which holds the fields.
"""

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from emp.core.config import secrets
from emp.core.errors import ConfigError
from emp.core.small_file import read_small
from emp.core.strict_yaml import StrictLoader

PREFIX = "EMP_"

RESERVED = (
    frozenset(
        {"EMP_CACHE", "EMP_DATA", "EMP_REGISTRY", "EMP_REQUIRE_REAL", "EMP_STATE", secrets.SECRETS_FILE}
    )
    | secrets.KNOWN
)
"""Variables with the prefix that are not fields of the configuration."""


class Environment(EnvSettingsSource):
    """Variables of the fields; a list is JSON or words between commas, a mapping JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the decoded list or mapping; a path as it stands, where one will do."""
        begin = value.lstrip()[:1]
        if begin not in ("[", "{"):
            if Path in get_args(field.annotation):
                return value
            return [word.strip() for word in value.split(",") if word.strip()]
        try:
            return json.loads(value)
        except ValueError:
            hint = "; words between commas do as well" if begin == "[" else ""
            kind = "list" if begin == "[" else "mapping"
            raise ConfigError(f"environment: the {kind} for {field_name} is not valid JSON{hint}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's mapping; raise ConfigError with one line where it is absent, unreadable or not a mapping."""
    try:
        data = yaml.load(read_small(path).decode("utf-8"), Loader=StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    except ValueError as error:  # a number or date that cannot be
        raise ConfigError(f"{path}: not valid YAML: {str(error).split(';')[0]}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(
            f"{path}: {where}not valid YAML: {getattr(error, 'problem', None) or 'bad character'}"
        ) from None
    if data is None:
        raise ConfigError(f"{path}: empty; start from examples/mock.yaml")
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{path}: must be a mapping of names to values; start from examples/mock.yaml")
    return data


def laid_over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with every leaf of `top` in its place."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = laid_over(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _field_names(model: type[BaseModel], at: str = "") -> Iterable[str]:
    """Dotted names of all leaves."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _field_names(kind, f"{at}{name}.")
        else:
            yield f"{at}{name}"


def _leaves(tree: Mapping[str, Any], at: str = "") -> Iterable[str]:
    """Dotted names of what a nested mapping sets."""
    for name, value in tree.items():
        yield from _leaves(value, f"{at}{name}.") if isinstance(value, Mapping) else (f"{at}{name}",)


def _variable(dotted: str) -> str:
    return PREFIX + dotted.replace(".", "__").upper()


def _sets(leaves: set[str], name: str) -> bool:
    """Whether one of these is the field, or lies in it: the value of a field may itself be a mapping."""
    return name in leaves or any(leaf.startswith(f"{name}.") for leaf in leaves)


class Origin(NamedTuple):
    """A setting in force."""

    value: Any
    source: str  # the file, the variable, or "default"


def origins(
    model: BaseModel, path: Path, in_file: Mapping[str, Any], in_environment: Mapping[str, Any]
) -> dict[str, Origin]:
    """Every leaf of a configuration by its dotted name, with where it comes from."""
    values = model.model_dump(mode="json")
    file, variables = set(_leaves(in_file)), set(_leaves(in_environment))
    found = {}
    for name in _field_names(type(model)):
        value: Any = values
        for part in name.split("."):
            value = value[part]
        source = _variable(name) if _sets(variables, name) else str(path) if _sets(file, name) else "default"
        found[name] = Origin(value, source)
    return found


def _near(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


def refuse_unknown_variables(model: type[BaseModel]) -> None:
    """Raise ConfigError for a variable that was surely meant for us and would be ignored."""
    known = {_variable(name) for name in _field_names(model)}
    sections = {_variable(name) for name in model.model_fields} - known
    for name in sorted(os.environ):
        if not name.startswith(PREFIX) or name in known or name in RESERVED:
            continue
        if name in sections:
            example = next(n for n in sorted(known) if n.startswith(f"{name}__"))
            raise ConfigError(f"environment: {name}: a section; set single fields of it, such as {example}")
        hint = _near(name, known, cutoff=0.6 if "__" in name else 0.85)
        if hint or "__" in name:
            raise ConfigError(f"environment: {name}: no such setting{hint}")


def one_line(
    error: ValidationError, model: type[BaseModel], path: Path, in_environment: Mapping[str, Any]
) -> str:
    """All mistakes of a configuration in one line, each with its place."""
    return "; ".join(dict.fromkeys(_mistake(e, model, path, in_environment) for e in error.errors()))


def _mistake(error: Any, model: type[BaseModel], path: Path, in_environment: Mapping[str, Any]) -> str:
    """One mistake with its place: the path in the file, or the variable that set the value."""
    place = [str(part) for part in error["loc"]]
    dotted = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"{path}: {dotted}: no such setting{_hint(place, model)}"
    message = error["msg"].removeprefix("Value error, ")
    if not place:
        overridden = ", ".join(_variable(name) for name in _leaves(in_environment))
        return f"{path}: {message}" + (f" (set in the environment: {overridden})" if overridden else "")
    if error["type"] == "missing":
        return f"{path}: {dotted}: must be given"
    if error["type"] == "model_type":
        return f"{_source(place, path, in_environment)}: must be a mapping of names to values"
    message = message.removeprefix("Input ").replace("should be", "must be")
    if isinstance(error["input"], (str, int, float, bool)):
        message += f", was {error['input']!r}"
    return f"{_source(place, path, in_environment)}: {message}"


def _source(place: list[str], path: Path, in_environment: Mapping[str, Any]) -> str:
    node: Any = in_environment
    for depth, part in enumerate(place):
        if not isinstance(node, Mapping):
            return f"environment: {_variable('.'.join(place[:depth]))}"
        if part not in node:
            return f"{path}: {'.'.join(place)}"
        node = node[part]
    return f"environment: {_variable('.'.join(place))}"


def _hint(place: list[str], model: type[BaseModel]) -> str:
    """What an unknown key may have been meant to be, never repeating its value."""
    word = place[-1]
    if any(part in word.lower() for part in ("password", "secret", "token", "username", "api_key")):
        return f" (credentials come from the environment or the file that {secrets.SECRETS_FILE} names)"
    names = list(_field_names(model))
    here = ".".join(place[:-1])
    siblings = [
        n.removeprefix(f"{here}.").split(".")[0] for n in names if not here or n.startswith(f"{here}.")
    ]
    near = _near(word, siblings)
    if near:
        return near
    elsewhere = [n for n in names if n.split(".")[-1] == word]
    return f"; did you mean {elsewhere[0]}?" if elsewhere else ""
