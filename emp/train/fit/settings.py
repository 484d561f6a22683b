"""Settings of a training run from a YAML file: `model:` (sizes) and `train:` (how to train), all optional."""

from pathlib import Path
from typing import Any

import msgspec
import torch
import yaml

from emp.core.errors import ConfigError, UsageError
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml
from emp.model.ssm_config import Impl, SSMConfig
from emp.train.fit.config import TrainConfig


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a settings file may hold."""

    model: dict[str, Any] = {}
    train: dict[str, Any] = {}


def read_settings(path: Path | None, impl: Impl, seed: int) -> tuple[SSMConfig, TrainConfig]:
    """Sizes and training settings; the defaults where there is no file.

    Raises:
        ConfigError: the file cannot be read, or names something that does not exist.
    """
    if path is None:
        return SSMConfig(impl=impl), TrainConfig(seed=seed)
    try:
        values = load_yaml(read_small(path)) or {}
        found = msgspec.convert(values, Settings)
        model = msgspec.convert({**found.model, "impl": impl}, SSMConfig)
        return model, msgspec.convert({**found.train, "seed": seed}, TrainConfig)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def pick_device(wanted: str) -> str:
    """Where to train: "cpu", "cuda", or with "auto" a CUDA device where there is one.

    Raises:
        UsageError: there is no such device here.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise UsageError(f"no device {wanted}: use auto, cpu or cuda")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UsageError("no CUDA device here: use --device cpu, or auto")
    return "cuda" if there and wanted != "cpu" else "cpu"
