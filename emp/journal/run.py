"""A run's folder: what ran, on what, and what came of it.

manifest.json         config, code version, instruments, models, data files with their hashes
ledger.sqlite         intents, reports, notes
actions/              the action log
market/               market data of a live run, as its engine saw it
monitor.jsonl         what watched the model that served has found
latency.jsonl         how long decisions took, by the hour
tail.bin              what neither holds yet
control.sock          where a running engine takes `emp halt` and the like
days.lock             held by a paper run until its days are on record, where it is told of a registry
reserve.bin           room for what must still be written when the disk is full; while a run is live
models/HASH/          every artifact that has served a live run, so that it can be replayed
checkpoint/state.npz  the newest checkpoint of a replay
summary.json          the result; there once the run has ended in order
"""

import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.core.code_version import code_version
from emp.core.disk import disk, make_folders, write_new
from emp.core.errors import JournalError, UsageError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.journal.files import file_sha256, is_link, is_there, listed, remove, write_atomically

CONTINUED = "continued"
"""Kind of the ledger's note that another process goes on with a run, of other settings perhaps."""

MANIFEST = "manifest.json"
_META = "meta.json"


def other_release(manifest: Mapping[str, Any]) -> str:
    """ ", written by ..., this is ..." where a manifest was not written by this very code; else nothing."""
    written, ours = str(manifest.get("code", "unknown")), code_version()
    return "" if written == ours else f", written by {written}, this is {ours}"


def build_manifest(
    *,
    run: str,
    mode: str,
    config: Mapping[str, Any],
    instruments: Sequence[str],
    model_hashes: Sequence[str],
    data_files: Sequence[Path] = (),
    facts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The manifest of a run that is about to start; every file of `data_files` is read and hashed.

    `facts` describe the instruments as they are now, for a replay after the catalogue has changed.
    """
    try:
        data = [{"name": p.name, "bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in data_files]
    except OSError as error:
        raise JournalError(f"cannot read data file {error.filename}: {error.strerror}") from error
    described = {"facts": [dict(one) for one in facts]} if facts else {}
    return {
        "run": run,
        "mode": mode,
        "code": code_version(),
        "config": dict(config),
        "instruments": list(instruments),
        "model_hashes": list(model_hashes),
        "data": data,
        **described,
    }


def instruments_of(manifest: Mapping[str, Any]) -> list[Instrument]:
    """The instruments of a run as they were when it began, in its order; empty where another release wrote it so that
    this one cannot tell.
    """
    described = manifest.get("facts") or [manifest.get("config", {}).get("instrument")]
    try:
        return msgspec.convert(described, list[Instrument])
    except msgspec.ValidationError:
        return []


class RunFolder:
    """Paths and small files of one run. Its manifest is read once: what is held against its hash is what is used."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest, self.manifest_sha256 = _read_manifest(self.path / MANIFEST)
        self.ledger = self.path / "ledger.sqlite"
        self.actions = self.path / "actions"
        self.market = self.path / "market"
        self.models = self.path / "models"
        self.planner = self.path / "planner"

    @classmethod
    def create(cls, path: Path | str, manifest: Mapping[str, Any]) -> "RunFolder":
        """Make the folder with its manifest; it appears whole, or one line says why it cannot be made."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(path)
                raise UsageError(f"run folder {path} exists: resume it, or name another")
            make_folders(path.parent)
            disk().make_folder(beside, 0o700)  # orders, money and the account's name are its owner's alone
            disk().make_folder(beside / "actions", 0o777)
            disk().make_folder(beside / "checkpoint", 0o777)
            write_atomically(beside / MANIFEST, _json(manifest))
            disk().replace(beside, path)
            disk().sync_folder(path.parent)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise JournalError(f"cannot create run folder {path}: {error.strerror}") from error
        return cls(path)

    @classmethod
    def open_or_create(cls, path: Path | str, manifest: Mapping[str, Any]) -> "RunFolder":
        """Open a folder that this very run has left, or make it; another run's folder is refused."""
        if not is_there(Path(path)):
            return cls.create(path, manifest)
        folder = cls(path)
        expected = json.loads(_json(manifest))
        for key in sorted(expected.keys() | folder.manifest.keys()):
            if expected.get(key) != folder.manifest.get(key):
                raise UsageError(f"run folder {path} was made with another {key}: name another folder")
        return folder

    def refuse_links(self) -> None:
        """JournalError where something of this folder is a link into another run's, or to what is not there: two runs
        would write one journal, or one would begin anew.
        """
        here = self.path.resolve()
        for link in listed(self.path):
            if not is_link(link) or not is_there(link):
                continue
            theirs = link.resolve().parent
            if theirs != here and is_there(theirs / "manifest.json"):
                raise JournalError(f"{link} is a link into the folder of another run, {theirs}: remove it")

    @property
    def finished(self) -> bool:
        """Whether the run has ended in order."""
        return is_there(self.path / "summary.json")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the result of the run; the last thing a run does."""
        write_atomically(self.path / "summary.json", _json(summary))

    def summary(self) -> dict[str, Any]:
        """The result of a finished run."""
        return _read_json(self.path / "summary.json")

    def write_checkpoint(self, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint by the bytes of these arrays (any dtype without objects) and JSON facts."""
        path = self.path / "checkpoint" / "state.npz"
        beside = path.with_name(".state.tmp.npz")
        shapes = {name: _shape_of(array) for name, array in arrays.items()}
        stored = {name: np.frombuffer(array.tobytes(), np.uint8) for name, array in arrays.items()}
        stored[_META] = np.frombuffer(_json({"arrays": shapes, "meta": dict(meta)}), np.uint8)
        try:
            whole = io.BytesIO()
            np.savez(whole, allow_pickle=False, **stored)
            write_new(beside, whole.getvalue())
            disk().replace(beside, path)
            disk().sync_folder(path.parent)
        except OSError as error:
            with suppress(OSError):
                remove(beside)
            raise JournalError(f"cannot write checkpoint {path}: {error.strerror}") from error

    def checkpoint_facts(self) -> dict[str, Any]:
        """Facts of the newest checkpoint; empty where there is none."""
        path = self.path / "checkpoint" / "state.npz"
        return _stored(path)[1]["meta"] if is_there(path) else {}

    def read_checkpoint(self, arrays: Mapping[str, Array]) -> dict[str, Any] | None:
        """Fill the arrays from the newest checkpoint and return its facts; None where there is none.

        A damaged one, or one of arrays with other names, dtypes or shapes, raises JournalError, and the
        arrays are left as they were.
        """
        path = self.path / "checkpoint" / "state.npz"
        if not is_there(path):
            return None
        stored, facts = _stored(path)
        if facts["arrays"] != {name: _shape_of(array) for name, array in arrays.items()}:
            raise JournalError(f"checkpoint {path} holds other states: remove it to start over")
        for name, array in arrays.items():
            array[...] = stored[name].view(array.dtype).reshape(array.shape)
        meta: dict[str, Any] = facts["meta"]
        return meta


def _stored(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a checkpoint as bytes, and what was written of their shapes and of the run."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        return stored, json.loads(stored.pop(_META).tobytes())
    except OSError as error:
        raise JournalError(f"cannot read checkpoint {path}: {error.strerror}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise JournalError(f"checkpoint {path} is damaged ({error}): remove it to start over") from error


def _shape_of(array: Array) -> list[Any]:
    return [str(array.dtype), list(array.shape)]


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(
        errors="surrogateescape"
    )


def _read_manifest(path: Path) -> tuple[dict[str, Any], str]:
    """What a manifest says, and the SHA-256 of the same bytes."""
    data = _read(path)
    return _parsed(data, path), hashlib.sha256(data).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    return _parsed(_read(path), path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error


def _parsed(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise JournalError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise JournalError(f"{path} is not a JSON object")
    return value
