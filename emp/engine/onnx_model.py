"""A network of another make as a model: an ONNX file, run by onnxruntime on one thread at every event.

Its inputs and outputs are found by their names; axes of one in front are as good as none.

    x       float32[n]      the input, in the order of `emp.INPUT_NAMES` and then of its own features
    state   float32[...]    optional: what it remembers of an instrument, all zero after every reset
    mean    [HORIZONS]      what it expects, in units of delta_hat; this or `q`
    q       [HORIZONS, 3]   optional: quartiles
    p       [HORIZONS, 3]   optional: probabilities of down, flat, up
    after   as state        with `state`: what it remembers from here on
"""

import hashlib
import itertools
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from emp.core.config.config import DEFAULT_IMPL
from emp.core.errors import UsageError
from emp.core.extras import missing_extra
from emp.core.records import HORIZONS, QUANTILES, Array
from emp.engine.loaded import LoadedModel
from emp.engine.onnx_nodes import draws
from emp.engine.own_model import (
    MOST_REMEMBERED,
    MOST_WARMUP,
    WARMUP_EVENTS,
    Features,
    OwnCode,
    Settings,
    artifact_of,
    check_written,
    checked,
    checked_settings,
    loaded,
    spans_of,
)
from emp.model.artifact import Artifact
from emp.perception.schema import schema_hash

NETWORK = "network"
"""The tensor of an artifact that holds the file's bytes."""

SAYS = "emp"
"""The entry of a file's metadata in which `emp.export` says what `Told` holds: JSON."""

OUTPUTS: dict[str, tuple[int, ...]] = {
    "mean": (HORIZONS,),
    "q": (HORIZONS, len(QUANTILES)),
    "p": (HORIZONS, 3),
}

_NUMBERS = re.compile(r"tensor\((float|float16|double|u?int\d+)\)")

_BESIDE_WORDS = "xternal data", "cannot get file size"
"""What onnxruntime says of weights that are not where it looks for them; older releases the second."""

_OF_THE_RUNTIME = b"ORTM"
"""What stands at bytes 4 to 8 of a file in the format that onnxruntime alone reads."""

_BESIDE = "session.model_external_initializers_file_folder_path"


class Told(msgspec.Struct, frozen=True):
    """What a file says of itself (`emp.export`); one of another make says nothing."""

    warmup_events: Annotated[int, msgspec.Meta(ge=1, le=MOST_WARMUP)] = WARMUP_EVENTS
    base: str = DEFAULT_IMPL
    trained_on: Sequence[tuple[str, int, int]] | None = None
    inputs: Sequence[str] | None = None
    schema: str | None = None  # of the built-in inputs


class _Session(NamedTuple):
    """A network that can be run."""

    runs: Any  # onnxruntime.InferenceSession
    x: tuple[int, ...]  # shape of the input
    state: tuple[int, ...] | None
    says: tuple[str, ...]  # which of OUTPUTS

    @property
    def remembers(self) -> int:
        return 0 if self.state is None else math.prod(self.state)


class Network(OwnCode):
    """An ONNX file as a model."""

    def __init__(self, content: bytes, settings: Settings) -> None:
        """Take a file's content; `settings` but for `memory`, which the file itself says.

        Raises:
            UsageError: in one line: it cannot be read or run, or has other inputs or outputs than a model.
        """
        self._content = content
        self._session = _open(content, f"model {settings.name}", len(settings.inputs))
        self.settings = checked_settings(settings._replace(memory=self._session.remembers))

    def named(self, source: str) -> "Network":
        """The same, which can be loaded from `source` again."""
        made = object.__new__(Network)
        made._content, made._session = self._content, self._session
        made.settings = self.settings._replace(source=source)
        return made

    def say(self, x: Array, state: Array | None) -> dict[str, Array]:
        """What it says of one input, by name, and with a state what it remembers then."""
        session = self._session
        given = {"x": x.astype(np.float32).reshape(session.x)}
        names = list(session.says)
        if state is not None and session.state is not None:
            given["state"] = state.astype(np.float32).reshape(session.state)
            names.append("after")
        found = dict(zip(names, session.runs.run(names, given), strict=True))
        return {name: found[name].reshape(OUTPUTS.get(name, found[name].shape)) for name in names}

    def _remembering(self, x: Array, forecast: Any, mine: Array) -> None:
        said = self.say(x, mine)
        mine[:] = said.pop("after").ravel()
        for name, value in said.items():
            getattr(forecast, name)[...] = value

    def _forgetful(self, x: Array, forecast: Any) -> None:
        for name, value in self.say(x, None).items():
            getattr(forecast, name)[...] = value

    def load(self) -> LoadedModel:
        """What the engine takes; with nothing remembered and nothing failed."""
        sources = {"sha256": hashlib.sha256(self._content).hexdigest()}
        held = {NETWORK: np.frombuffer(self._content, np.uint8)}
        return self.load_as(artifact_of(self.settings, sources, held))

    def load_as(self, artifact: Artifact) -> LoadedModel:
        """The same under the artifact that names it."""
        one = self.settings
        function = self._remembering if one.memory else self._forgetful
        return loaded(checked(function, f"model {one.name}", "x, forecast", one.memory), one, artifact)


def read_network(
    path: str | Path,
    *,
    warmup_events: int | None = None,
    features: Features | None = None,
    base: str | None = None,
    trained_on: Any = None,
    catalogue: str | Path | None = None,
    name: str | None = None,
) -> Network:
    """An ONNX file as a model; what is not said is what the file says of itself (`emp.export`), or as for `emp.Model`.

    Raises:
        UsageError: in one line: it cannot be read or run, or has other inputs or outputs than a model.
    """
    place = Path(path)
    try:
        content = place.read_bytes()
    except OSError as error:
        raise UsageError(f"model {place}: {error.strerror}") from error
    title = name or place.name
    told = _told(content, f"model {title}")
    said = Settings(
        title,
        warmup_events=told.warmup_events if warmup_events is None else warmup_events,
        features=features,
        base=told.base if base is None else str(base),
        trained_on=told.trained_on if trained_on is None else spans_of(trained_on, title, catalogue),
    )
    _check_inputs(told, said)
    if told.inputs is None and not said.trained_on and trained_on is None:
        said = said._replace(trained_on=None)  # earlier builds wrote an empty list where nobody had said
    return Network(content, said)


def told_of(said: Settings) -> bytes:
    """What a file says of itself: its metadata under SAYS."""
    told = Told(said.warmup_events, said.base, said.trained_on, said.inputs, schema_hash())
    return msgspec.json.encode(told)


def _check_inputs(told: Told, said: Settings) -> None:
    """UsageError in one line where a network is shown others than those that it was made for, as far as it says."""
    whose = f"model {said.name}"
    if told.inputs is not None and tuple(told.inputs) != said.inputs:
        pairs = itertools.zip_longest(told.inputs, said.inputs, fillvalue="nothing")
        k, (its, ours) = next((k, one) for k, one in enumerate(pairs) if one[0] != one[1])
        raise UsageError(
            f"{whose}: it was exported for other inputs (features=): number {k + 1} is {its}, here {ours}"
        )
    if told.schema not in (None, schema_hash()):
        raise UsageError(
            f"{whose}: it was exported for inputs that this version computes otherwise: export it anew"
        )


def network_again(artifact: Artifact) -> LoadedModel:
    """The network that an artifact holds."""
    config, manifest = artifact.manifest.config, artifact.manifest
    series = manifest.provenance.get("series")
    spans = None if series is None else [(one["instrument"], *one["train_ns"]) for one in series]
    said = Settings(str(config["name"]), warmup_events=manifest.warmup_events, trained_on=spans)
    return Network(artifact.tensors[NETWORK].tobytes(), said).load_as(artifact)


def _runtime(whose: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(f"{whose}: {missing_extra('onnxruntime')}") from None
    return onnxruntime


def _start(content: bytes, whose: str) -> Any:
    """A session of one thread that computes the same every time."""
    if content[4:8] == _OF_THE_RUNTIME:  # it would run it, and nothing here can read what it computes with
        raise UsageError(f"{whose}: is in onnxruntime's own format: give the ONNX file that it was made of")
    runtime = _runtime(whose)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="emp-onnx-") as nowhere:
        # a network is one file: of weights that lie beside it, neither its hash nor a run's copy would know
        options.add_session_config_entry(_BESIDE, nowhere)
        try:
            return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises kinds of its own, all of them about the file
            if any(words in str(error) for words in _BESIDE_WORDS):
                raise UsageError(f"{whose}: its weights lie in another file: save it as one") from None
            raise UsageError(f"{whose}: no network that onnxruntime can run: {_line(error)}") from None


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _told(content: bytes, whose: str) -> Told:
    """What a file says of itself."""
    session = _start(content, whose)
    try:
        written = session.get_modelmeta().custom_metadata_map.get(SAYS, "{}")
        told = msgspec.json.decode(written, type=Told)
        check_written(told.trained_on)
        return told
    except (ValueError, msgspec.MsgspecError, UsageError) as error:
        raise UsageError(f"{whose}: what its metadata says under {SAYS!r} is wrong: {_line(error)}") from None


def _open(content: bytes, whose: str, n: int) -> _Session:
    """The network, once what goes in and what comes out has been looked at, and it has been run once."""
    runs = _start(content, whose)
    takes = {one.name: one for one in runs.get_inputs()}
    if "x" not in takes or set(takes) - {"x", "state"}:
        raise UsageError(f"{whose}: its inputs are {', '.join(takes)}: x is wanted, and state may be")
    x = _filled(_shape(takes["x"], whose), n)
    if math.prod(x) != n or x[-1] != n:
        raise UsageError(f"{whose}: x is {list(x)}, and a model is shown {n} numbers: [{n}], or [1, {n}]")
    state = _filled(_shape(takes["state"], whose)) if "state" in takes else None
    if state is not None and (min(state) < 1 or math.prod(state) > MOST_REMEMBERED):
        raise UsageError(
            f"{whose}: state is {list(state)}: its sizes are to be fixed, {MOST_REMEMBERED} numbers at most"
        )
    kinds = {one.name: one.type for one in runs.get_outputs()}
    gives = list(kinds)
    if ("after" in gives) != (state is not None):
        raise UsageError(f"{whose}: the input state and the output after belong together")
    says = tuple(name for name in OUTPUTS if name in gives)
    if not {"mean", "q"} & set(says):
        raise UsageError(f"{whose}: its outputs are {', '.join(gives)}: mean is wanted, or q")
    odd = [name for name in (*says, "after") if name in kinds and not _NUMBERS.fullmatch(kinds[name])]
    if odd:
        raise UsageError(f"{whose}: {odd[0]} is a {kinds[odd[0]]}, numbers are wanted: tensor(float)")
    try:
        drawing = draws(content)
    except (IndexError, UnicodeDecodeError):
        raise UsageError(f"{whose}: is no ONNX file: what it computes with cannot be read") from None
    if drawing:
        raise UsageError(f"{whose}: {drawing} draws at random, and a run could not be replayed: leave it out")
    session = _Session(runs, x, state, says)
    _try(session, whose)
    return session


def _shape(argument: Any, whose: str) -> tuple[int, ...]:
    """Sizes of an input, -1 where one is free."""
    if argument.type != "tensor(float)":
        raise UsageError(f"{whose}: {argument.name} is a {argument.type}, float32 is wanted: tensor(float)")
    return tuple(size if isinstance(size, int) else -1 for size in argument.shape)


def _filled(shape: tuple[int, ...], last: int = -1) -> tuple[int, ...]:
    """Sizes of a batch of one: the last as given where it is free, and the first 1."""
    shape = shape or (1,)
    if shape[-1] == -1:
        shape = (*shape[:-1], last)
    return (1, *shape[1:]) if shape[0] == -1 else shape


def _try(session: _Session, whose: str) -> None:
    """Run it once on zeros: UsageError where it cannot, or where what comes out has another shape."""
    given = {"x": np.zeros(session.x, np.float32)}
    wanted = {name: OUTPUTS[name] for name in session.says}
    if session.state is not None:
        given["state"] = np.zeros(session.state, np.float32)
        wanted["after"] = session.state
    try:
        found = session.runs.run(list(wanted), given)
    except Exception as error:
        raise UsageError(f"{whose}: it cannot be run: {_line(error)}") from None
    for (name, shape), value in zip(wanted.items(), found, strict=True):
        core = value.shape[value.ndim - len(shape) :]
        if core != shape or value.size != math.prod(shape):
            raise UsageError(f"{whose}: {name} is {list(value.shape)}, {list(shape)} is wanted")
