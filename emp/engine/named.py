"""What the user has written, by its name: `module:object`, `file.py:object`; and a network as `net.onnx`."""

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from emp.core.errors import ArtifactError, EmpError, UsageError
from emp.engine.code_hash import IMPORTED_INSIDE, content_of, forget_compiled, is_own_module, keep_room
from emp.engine.loaded import LoadedModel
from emp.engine.onnx_model import NETWORK, network_again, read_network
from emp.engine.own_model import OwnCode, make_model
from emp.model.artifact import ENCODER, Artifact, Manifest, content_hash

_OWN = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*")


ONNX = ".onnx"
_READ: dict[str, bytes] = {}
"""What stood in the file of a module when it was imported last."""

_IMPORTED: dict[str, ModuleType] = {}
"""The user's own modules that were imported for what was named, by their names."""


def is_own(name: str | Path) -> bool:
    """Whether a model's name is that of a model of one's own."""
    return str(name).endswith(ONNX) or _OWN.fullmatch(str(name)) is not None


def load_object(name: str, option: str, folder: Path | None = None) -> Any:
    """What stands under a name; modules are looked for in the working folder too.

    Args:
        option: where the name was given, as errors call it: "--rule".
        folder: where modules are looked for first, where that is another.

    Raises:
        UsageError: in one line: there is no such module or object, or it cannot be imported.
    """
    where, colon, wanted = name.rpartition(":")
    if not colon or not where or not wanted:
        raise UsageError(f"{option} {name}: name it as module:object, or file.py:object")
    # what lies beside a script can be imported by it
    first = Path(where).resolve().parent if where.endswith(".py") else folder or Path.cwd()
    _forget_edited(first)
    known = set(sys.modules)
    try:
        module = _from_file(Path(where)) if where.endswith(".py") else _from_path(where, first)
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


def load_own(name: str, folder: Path | None = None) -> OwnCode:
    """The model of one's own that a name stands for; `folder` as for `load_object`.

    Raises:
        UsageError: in one line, as `load_object`; or what is there is no model.
    """
    if name.endswith(ONNX):
        return read_network(name)
    found = load_object(name, "--model", folder)
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
        found = network_again(artifact) if network else load_own(*_again(artifact, source)).load()
    except EmpError as error:
        raise ArtifactError(f"{whose}: {error}") from error
    now = _as_named_now(artifact.manifest, found.artifact.manifest)
    names = {content_hash(one, artifact.tensors) for one in now}
    if found.artifact.hash not in {artifact.hash, *names}:
        raise ArtifactError(f"{whose}: it has changed since it served ({source})")
    return found._replace(artifact=artifact)


def _as_named_now(manifest: Manifest, found: Manifest) -> Iterator[Manifest]:
    """A manifest that an earlier build may have written, as it is written now: of what it did not say of its depth
    encoder, whose tensors its hash covers, as `found` says it.
    """
    config, provenance = {"folder": ""} | manifest.config, manifest.provenance
    if ENCODER in found.provenance:
        provenance = {ENCODER: found.provenance[ENCODER]} | provenance
    spans = [{"series": one.get("instrument")} | one for one in provenance.get("series", [])]
    yield msgspec.structs.replace(
        manifest, config=config, provenance=provenance | ({"series": spans} if spans else {})
    )
    if "folder" not in manifest.config and not spans:  # an empty list stood there where nobody had said
        yield msgspec.structs.replace(manifest, config=config, provenance={})


def _again(artifact: Artifact, source: str) -> tuple[str, Path | None]:
    """The name of what served where it lay then, as long as it is there, and the folder."""
    folder = Path(str(artifact.manifest.config.get("folder", "")) or Path.cwd())
    file = source.rpartition(":")[0]
    there = file.endswith(".py") and (folder / file).exists()
    return str(folder / source) if there else source, folder if folder.is_dir() else None


def _remember(names: Iterable[str]) -> None:
    """Note which of the modules that were just imported are the user's own, and what stood in their files."""
    for name in names:
        module = sys.modules[name]
        if is_own_module(module):
            _IMPORTED[name], _READ[name] = module, content_of(module)


def _forget_edited(first: Path) -> None:
    """Where a file was edited since it was imported for what was named, or another of its name lies in the folder that
    is looked in first, import all of them anew: a module that is the same holds parts of one that is not.
    """
    _remember(IMPORTED_INSIDE)
    _READ.update({name: IMPORTED_INSIDE[name] for name in _IMPORTED if name in IMPORTED_INSIDE})
    IMPORTED_INSIDE.clear()
    edited = [name for name, module in _IMPORTED.items() if content_of(module) != _READ[name]]
    for name in edited:
        forget_compiled(Path(str(_IMPORTED[name].__file__)))
    another = any(_is_another(name, module, first) for name, module in _IMPORTED.items())
    for name in [*_IMPORTED] if edited or another else []:
        _READ.pop(name, None)
        module, (parent, _, last) = _IMPORTED.pop(name), name.rpartition(".")
        keep_room(module)
        if sys.modules.get(name) is module:
            del sys.modules[name]
            with contextlib.suppress(KeyError, AttributeError):  # else `from parent import last` finds it
                delattr(sys.modules[parent], last)
    importlib.invalidate_caches()


def _is_another(name: str, module: ModuleType, folder: Path) -> bool:
    """Whether a folder holds another module of a name."""
    spec = None if "." in name else PathFinder.find_spec(name, [str(folder)])
    there, here = (
        getattr(one, of, None) or next(iter(getattr(one, path, None) or ()), None)
        for one, of, path in (
            (spec, "origin", "submodule_search_locations"),
            (module, "__file__", "__path__"),
        )
    )
    return bool(there and here) and Path(str(there)).resolve() != Path(str(here)).resolve()


def _look_first_in(folder: Path) -> None:
    here = str(folder)
    if here in sys.path:
        sys.path.remove(here)
    sys.path.insert(0, here)


def _from_path(name: str, first: Path) -> ModuleType:
    for folder in (Path.cwd(), first):
        _look_first_in(folder)
    module = importlib.import_module(name)
    now = content_of(module)
    if _READ.setdefault(name, now) != now:  # edited since: what runs must be what its hash says
        module = importlib.reload(module)
        _READ[name] = now
    return module


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(path)
    _look_first_in(path.resolve().parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    # not by its loader: of a compiled copy that compares size and second alone
    exec(compile(path.read_bytes(), str(module.__file__), "exec", dont_inherit=True), vars(module))
    return module
