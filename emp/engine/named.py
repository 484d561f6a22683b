"""What the user has written, by its name: `module:object`, `file.py:object`; and a network as `net.onnx`."""

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from emp.core.errors import ArtifactError, EmpError, UsageError
from emp.engine.code_hash import is_own_module, keep_room
from emp.engine.loaded import LoadedModel
from emp.engine.onnx_model import NETWORK, network_again, read_network
from emp.engine.own_model import OwnCode, make_model
from emp.model.artifact import Artifact, content_hash

_OWN = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*")


ONNX = ".onnx"
_READ: dict[str, bytes] = {}
"""What stood in the file of a module when it was imported last."""

_IMPORTED: dict[str, ModuleType] = {}
"""The user's own modules that were imported for what was named, by their names."""


def is_own(name: str | Path) -> bool:
    """Whether a model's name is that of a model of one's own."""
    return str(name).endswith(ONNX) or _OWN.fullmatch(str(name)) is not None


def load_object(name: str, option: str) -> Any:
    """What stands under a name; modules are looked for in the working folder too.

    Args:
        option: where the name was given, as errors call it: "--rule".

    Raises:
        UsageError: in one line: there is no such module or object, or it cannot be imported.
    """
    where, colon, wanted = name.rpartition(":")
    if not colon or not where or not wanted:
        raise UsageError(f"{option} {name}: name it as module:object, or file.py:object")
    _forget_edited()
    known = set(sys.modules)
    try:
        module = _from_file(Path(where)) if where.endswith(".py") else _from_path(where)
    except FileNotFoundError:
        raise UsageError(f"{option} {name}: no such file: {where}") from None
    except Exception as error:  # whatever the user's own code raises
        said = str(error).splitlines()
        why = said[0] if said else "no reason given"
        raise UsageError(f"{option} {name}: {type(error).__name__}: {why}") from error
    finally:
        _remember(set(sys.modules) - known)
    if not hasattr(module, wanted):
        raise UsageError(f"{option} {name}: there is no {wanted} in {where}")
    return getattr(module, wanted)


def load_own(name: str) -> OwnCode:
    """The model of one's own that a name stands for.

    Raises:
        UsageError: in one line, as `load_object`; or what is there is no model.
    """
    if name.endswith(ONNX):
        return read_network(name)
    found = load_object(name, "--model")
    if not callable(found) and not isinstance(found, OwnCode):
        kind, wanted = type(found).__name__, name.rpartition(":")[2]
        raise UsageError(f"--model {name}: {wanted} is a {kind}, no function and no emp.Model")
    return make_model(found).named(name)


def load_again(artifact: Artifact, folder: Path) -> LoadedModel:
    """A model of one's own that a run has kept: a network from its bytes, a function from where it was written.

    Raises:
        ArtifactError: it is gone, or is not what it was.
    """
    name, source = (str(artifact.manifest.config.get(one, "")) for one in ("name", "source"))
    whose = f"{folder}: a model of your own, {name}"
    network = not source and NETWORK in artifact.tensors
    if not source and not network:
        raise ArtifactError(f"{whose}: was no file that it could be read from again")
    try:
        found = network_again(artifact) if network else load_own(_again(artifact, source)).load()
    except EmpError as error:
        raise ArtifactError(f"{whose}: {error}") from error
    kept = msgspec.structs.replace(artifact.manifest, config={"folder": ""} | artifact.manifest.config)
    if found.artifact.hash == content_hash(
        kept, artifact.tensors
    ):  # also one that an earlier build has named
        return found._replace(artifact=artifact)
    if found.artifact.hash != artifact.hash:
        raise ArtifactError(f"{whose}: it has changed since it served ({source})")
    return found


def _again(artifact: Artifact, source: str) -> str:
    """A file as it was named, or where it lay then."""
    there = str(Path(str(artifact.manifest.config.get("folder", ""))) / source)
    file = source.rpartition(":")[0]
    return there if file.endswith(".py") and not Path(file).exists() else source


def _remember(names: Iterable[str]) -> None:
    """Note which of the modules that were just imported are the user's own, and what stood in their files."""
    for name in names:
        module = sys.modules[name]
        if is_own_module(module):
            _IMPORTED[name], _READ[name] = module, _content(module)


def _forget_edited() -> None:
    """Where a file was edited since it was imported for what was named, import all of them anew: a module that was
    not edited holds parts of one that was.
    """
    edited = [name for name, module in _IMPORTED.items() if _content(module) != _READ[name]]
    for name in edited:
        # of the compiled copy Python compares size and second alone
        with contextlib.suppress(OSError, TypeError, NotImplementedError):
            Path(importlib.util.cache_from_source(str(_IMPORTED[name].__file__))).unlink()
    for name in [*_IMPORTED] if edited else []:
        module, (parent, _, last) = _IMPORTED.pop(name), name.rpartition(".")
        keep_room(module)
        if sys.modules.get(name) is module:
            del sys.modules[name]
            with contextlib.suppress(KeyError, AttributeError):  # else `from parent import last` finds it
                delattr(sys.modules[parent], last)
    importlib.invalidate_caches()


def _content(module: ModuleType) -> bytes:
    """What stands in a module's file; nothing where it is gone, or there is none."""
    try:
        return Path(module.__file__ or "").read_bytes()
    except (OSError, AttributeError):
        return b""


def _from_path(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = importlib.import_module(name)
    now = _content(module)
    if _READ.setdefault(name, now) != now:  # edited since: what runs must be what its hash says
        module = importlib.reload(module)
        _READ[name] = now
    return module


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(path)
    beside = str(path.resolve().parent)  # what lies beside a script can be imported by it
    if beside not in sys.path:
        sys.path.insert(0, beside)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    # not by its loader: of a compiled copy that compares size and second alone
    exec(compile(path.read_bytes(), str(module.__file__), "exec", dont_inherit=True), vars(module))
    return module
