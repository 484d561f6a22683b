"""YAML as people write settings in it: what could be read in two ways is an error instead of a silent choice."""

from collections.abc import Hashable
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, and so is half of a character that takes two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node; an error where a key stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} stands there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """The value of a node; an error where it is no text that could be written again."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise yaml.constructor.ConstructorError(None, None, "half of a character", node.start_mark)
        return value


def load_own_yaml(data: bytes) -> Any:
    """What a file of the package says: by libyaml where it is there, ten times as fast.

    Not for strangers' files: what is nested too deeply ends the process there.
    """
    return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load_yaml(data: bytes) -> Any:
    """What a file says.

    Raises:
        yaml.YAMLError: it is not YAML, says a thing twice, or is nested too deeply.
    """
    try:
        return yaml.load(data, Loader=StrictLoader)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="nested too deeply") from None
    except ValueError as error:  # a number or date that cannot be
        raise yaml.MarkedYAMLError(problem=str(error).split(";", maxsplit=1)[0]) from None
