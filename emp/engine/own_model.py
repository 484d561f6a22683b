"""Bring functions of the user's into the compiled path as its model and features (`emp.model.own`, `perception.own`).

    model = Model(function, memory=4)                        # goes on in Python at every event
    model = Model(numba.njit(function), memory=4)            # stays compiled
    model = Model(function, features=Features(other, names=["lean"]))
    engine = Engine(instruments, model.load(), limits, run)

A function that fails, or says what is no forecast, is asked no more; `Owner.check` says why in one line.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from emp.core.config.config import DEFAULT_IMPL
from emp.core.errors import UsageError
from emp.core.instrument import catalogue
from emp.core.own_code import ANSWERED, FAILURE, Fault
from emp.core.records import HORIZON_NAMES, HORIZON_NS, Array
from emp.engine.code_hash import source_hash
from emp.engine.entry import (
    ENTRY,
    address_of,
    arguments,
    carray,
    compile_entry,
    numbers_at,
    pointer,
    record_at,
    why,
)
from emp.engine.loaded import LoadedModel, encoder_of
from emp.engine.shipped import artifact_folder
from emp.engine.values_hash import values_hash
from emp.model import beliefs as _beliefs  # noqa: F401  numba must know it before it compiles a model
from emp.model.artifact import ENCODER, OWN, Artifact, Manifest, content_hash, load
from emp.model.own import SAID, OwnModel
from emp.perception.normalise import INPUT_NAMES, INPUTS, LOG_SPAN
from emp.perception.own import SEEN, OwnFeatures, own_features, row_width
from emp.perception.schema import schema_hash

WARMUP_EVENTS = 512
"""Events after a reset before a model of one's own is traded, unless it says otherwise: those of the shipped ones."""

MOST_WARMUP = 1 << 31
"""What may be asked for of events after a reset: more than any stretch of a market has."""

FIRST_NS = 4 * 10**15
"""A time below it, in February 1970, is one of today in seconds, milliseconds or microseconds; from 2**63 on it is none
in ns."""

MOST_REMEMBERED = 1 << 20
"""Numbers that a function may remember of an instrument."""

PACE, ACTIVITY = INPUT_NAMES.index("pace"), INPUT_NAMES.index("activity")

Spans = Sequence[tuple[str, int, int]]
"""Instruments that a model was trained on, each from (inclusive) and to (exclusive), ns UTC."""


class Forecast:
    """What a function in Python writes: `mean[h]`, `q[h, k]` and `p[h, k]`, float64 of a SAID record."""

    __slots__ = ("mean", "p", "q")

    def __init__(self, said: Any) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, said[name])

    def __setattr__(self, name: str, value: Any) -> None:
        getattr(self, name)[...] = value


class Part:
    """One function at an address: of three words, what it is given, what it writes, and what it remembers."""

    def __init__(self, function: Any, whose: str, takes: int, memory: int) -> None:
        self.function, self.whose, self.takes, self.memory = function, whose, takes, memory
        self.compiled = isinstance(function, Dispatcher)
        self.plain = function.py_func if self.compiled else function

    @cached_property
    def place(self) -> str:
        """The line where it begins, in brackets; "" of what is no code of the user's."""
        code = getattr(self.plain, "__code__", None)
        if code is None or isinstance(getattr(self.plain, "__self__", None), OwnCode):
            return ""
        return f" ({Path(code.co_filename).name}, line {code.co_firstlineno})"

    @property
    def bounded(self) -> Any:
        """The compiled function, which looks at every index: one beyond an array would write anywhere."""
        return numba.jit(**{**self.function.targetoptions, "boundscheck": True})(self.plain)


def checked(function: Any, whose: str, shown: str, memory: Any) -> Part:
    """A function that takes `shown`, and what it remembers where that is anything; UsageError where it cannot."""
    plain = function.py_func if isinstance(function, Dispatcher) else function
    takes = arguments(plain, whose, f"({shown})", f"({shown}, mine)")
    if not isinstance(memory, int) or isinstance(memory, bool) or not 0 <= memory <= MOST_REMEMBERED:
        raise UsageError(
            f"{whose}: memory is how many numbers it remembers, 0 to {MOST_REMEMBERED}, not {memory!r}"
        )
    if takes == 3 and memory == 0:
        raise UsageError(f"{whose}: takes memory of its own, and none is given (memory=)")
    if takes == 2 and memory != 0:
        raise UsageError(f"{whose}: memory is given, and it takes ({shown}) only")
    return Part(function, whose, takes, memory)


def _title(function: Any, name: str | None) -> str:
    plain = function.py_func if isinstance(function, Dispatcher) else function
    return name or str(getattr(plain, "__name__", type(plain).__name__))


class Features:
    """Inputs of one's own: `function(seen, own)` writes as many numbers as there are names, at every visible event.

    Attributes:
        names: of the inputs, behind `emp.INPUT_NAMES`.
    """

    def __init__(self, function: Callable[..., Any], names: Sequence[str], memory: int = 0) -> None:
        """`memory`: float64 that it remembers of each instrument, as a third argument; zero after every reset."""
        whose = f"features {_title(function, None)}"
        if isinstance(names, str) or not names or not all(isinstance(one, str) and one for one in names):
            raise UsageError(f"{whose}: names are those of its inputs: names=['lean', 'gap']")
        self.names = tuple(names)
        twice = [one for one in self.names if one in INPUT_NAMES or self.names.count(one) > 1]
        if twice:
            raise UsageError(f"{whose}: there is an input {twice[0]} already")
        self.part = checked(function, whose, "seen, own", memory)

    @property
    def hash(self) -> str:
        """Of its source and of what that refers to."""
        return source_hash(self.part.plain) + values_hash(self.part.plain)

    def serving(self) -> "Serving":
        """What came of them where they serve without a model."""
        return Serving("", self)

    def load(self, encoder: Any, serving: "Serving") -> OwnFeatures:
        """What perceives, with the built-in features in front; what it needs lives as long as `serving`."""
        return own_features(
            encoder,
            serving.entry(self.part, Fault.FEATURES_RAISED, len(self.names)),
            len(self.names),
            self.part.memory,
            serving.at,
            serving.failure,
        )


class Settings(NamedTuple):
    """What is said of a model beside what computes it."""

    name: str
    memory: int = 0  # float64 that it remembers of each instrument
    warmup_events: int = WARMUP_EVENTS
    features: Features | None = None
    base: str = DEFAULT_IMPL  # the artifact whose depth encoder, units and classes are its own
    trained_on: Spans | None = None  # None: nobody says
    source: str = ""  # what it can be loaded from again

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it is shown."""
        return INPUT_NAMES + (self.features.names if self.features is not None else ())


class OwnCode:
    """A model of the user's own, not yet loaded: `Model`, or a network."""

    settings: Settings

    def load(self) -> LoadedModel:
        """What the engine takes; with nothing remembered and nothing failed."""
        raise NotImplementedError

    def named(self, source: str) -> "OwnCode":
        """The same, which can be loaded from `source` again."""
        raise NotImplementedError


class Model(OwnCode):
    """A function as a model: `function(x, forecast)`, or `function(x, forecast, mine)` with memory of its own."""

    def __init__(
        self,
        function: Callable[..., Any],
        memory: int = 0,
        *,
        warmup_events: int = WARMUP_EVENTS,
        features: Features | None = None,
        base: str = DEFAULT_IMPL,
        trained_on: Any = None,
        catalogue: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        """Describe a model.

        Args:
            function: plain, or compiled by `numba.njit`. `x` float64[n] is the input, in the order of `emp.INPUT_NAMES`
                and then of its own features; `forecast` has `mean`, `q` and `p` by horizon, of which a mean is enough.
            memory: float64 that it remembers of each instrument: `mine`, zero after every reset.
            warmup_events: events after a reset before it is traded.
            features: inputs of one's own.
            base: the shipped model, or folder, whose depth encoder, units and classes are its own.
            trained_on: market data that it was trained on, or its span (instrument, from ns, to ns beyond the last), or
                several: a result tells it apart. Of none: (); None: nobody says.
            catalogue: a file of one's own that knows the instruments of those spans.
            name: as pages and records call it.
        """
        title = _title(function, name)
        self._part = checked(function, f"model {title}", "x, forecast", memory)
        spans = spans_of(trained_on, title, catalogue)
        self.settings = checked_settings(Settings(title, memory, warmup_events, features, str(base), spans))

    def named(self, source: str) -> "Model":
        """The same, which can be loaded from `source` again."""
        made = object.__new__(Model)
        made._part, made.settings = self._part, self.settings._replace(source=source)
        return made

    def load(self) -> LoadedModel:
        """What the engine takes; with nothing remembered and nothing failed."""
        plain = self._part.plain
        sources = {"sha256": source_hash(plain), "values": values_hash(plain)}
        return loaded(self._part, self.settings, artifact_of(self.settings, sources, {}))


def checked_settings(said: Settings) -> Settings:
    """The same; UsageError in one line where they make no sense."""
    if said.features is not None and not isinstance(said.features, Features):
        raise UsageError(
            f"model {said.name}: features are an emp.Features with their names, not {said.features!r}"
        )
    if not isinstance(said.warmup_events, int) or not 1 <= said.warmup_events <= MOST_WARMUP:
        raise UsageError(
            f"model {said.name}: warmup_events is a whole number from 1 to {MOST_WARMUP}, not {said.warmup_events!r}"
        )
    return said


def spans_of(trained_on: Any, name: str, own_catalogue: str | Path | None = None) -> Spans | None:
    """Where a model was trained, of the market data or the spans that it was trained on; None of None.

    Raises:
        UsageError: in one line: a span is none, or of an instrument that neither catalogue knows.
    """
    if trained_on is None:
        return None
    several = isinstance(trained_on, list | tuple) and not _is_span(trained_on)
    try:
        return [_span_of(one, own_catalogue) for one in (trained_on if several else [trained_on])]
    except (AttributeError, IndexError, TypeError):
        raise UsageError(
            f"model {name}: trained_on is market data, or several: trained_on=market[:50_000];"
            " or (instrument, from ns, to ns)"
        ) from None
    except ValueError as error:
        raise UsageError(f"model {name}: trained_on: {error}") from None


def _is_span(one: Any) -> bool:
    if not isinstance(one, tuple) or len(one) != 3 or not isinstance(one[0], str):
        return False
    return all(isinstance(ts, int | np.integer) for ts in one[1:])


def _span_of(one: Any, own_catalogue: str | Path | None) -> tuple[str, int, int]:
    if _is_span(one):
        name, first, last = str(one[0]), int(one[1]), int(one[2])
        if not FIRST_NS <= first < last < 2**63:
            raise ValueError(_no_span(name, first, last))
        known = catalogue(None if own_catalogue is None else Path(own_catalogue))
        if name not in known:
            near = {other.upper(): other for other in known}.get(name.upper())
            raise ValueError(
                f"there is no instrument {name}: {near or 'catalogue= names a file of your own that has it'}"
            )
        return name, first, last
    return one.instrument.name, int(one.events["ts"][0]), int(one.events["ts"][-1]) + 1


def _no_span(name: str, first: int, last: int) -> str:
    return f"{name} from {first} to {last}: ns UTC, the first of it and one beyond the last"


def check_written(spans: Spans | None) -> None:
    """UsageError in one line where what a file says is no span. Year and catalogue were looked at when it was written:
    it may have been by market data of any year.
    """
    for name, first, last in spans or ():
        if not -(2**63) <= first < last < 2**63:
            raise UsageError(f"trained_on: {_no_span(name, first, last)}")


def make_model(function: Any) -> OwnCode:
    """A model from a function, plain or compiled; a model is returned as it is."""
    return function if isinstance(function, OwnCode) else Model(function)


def artifact_of(settings: Settings, sources: dict[str, Any], tensors: dict[str, Array]) -> Artifact:
    """What is written down of a model, and names it.

    Args:
        sources: hashes by name: what else than the settings makes it this model.
        tensors: what an artifact of it holds beside the depth encoder.
    """
    base = load(artifact_folder(settings.base), schema_hash())
    return _artifact(settings, base, sources, tensors)


def loaded(part: Part, settings: Settings, artifact: Artifact) -> LoadedModel:
    """What the engine takes of a function, what is said of it, and the artifact that names it."""
    encoder = encoder_of(Path(settings.name), artifact.tensors)
    serving = Serving(settings.name, settings.features)
    n, own = len(settings.inputs), len(settings.inputs) - INPUTS
    features = settings.features
    perceives = (
        own_features(encoder, 0, 0, 0, serving.at, serving.failure)
        if features is None
        else features.load(encoder, serving)
    )
    params = OwnModel(
        entry=np.array([serving.entry(part, Fault.MODEL_RAISED, n)], np.int64),
        at=serving.at,
        failure=serving.failure,
        x=np.zeros(n),
        said=np.zeros(1, SAID),
        threshold=np.array(artifact.manifest.thresholds),
        places=np.array([ACTIVITY, PACE], np.int64),
        units=np.array([LOG_SPAN, HORIZON_NS[1] * 1e-9]),
    )
    width = row_width(own, features.part.memory if features is not None else 0)
    return LoadedModel(artifact, params, encoder, 2 * settings.memory, perceives, width, serving)


def _artifact(
    settings: Settings, base: Artifact, sources: dict[str, Any], tensors: dict[str, Array]
) -> Artifact:
    features = settings.features
    config = {
        "name": settings.name,
        "source": settings.source,
        "folder": str(Path.cwd()) if settings.source else "",
        "inputs": list(settings.inputs),
        "memory": settings.memory,
        "features": "" if features is None else features.hash,
        "remembers": 0 if features is None else features.part.memory,
        **sources,
    }
    trained = [
        {"series": name, "instrument": name, "train_ns": [first, last]}
        for name, first, last in settings.trained_on or ()
    ]
    manifest = Manifest(
        kind=OWN,
        schema=schema_hash(),
        domains=base.manifest.domains,
        k_sigma=base.manifest.k_sigma,
        thresholds=base.manifest.thresholds,
        warmup_events=settings.warmup_events,
        config=config,
        provenance={} if settings.trained_on is None else {"series": trained, **_encoder_of(base.manifest)},
    )
    held = {name: t for name, t in base.tensors.items() if name.startswith("encoder.")} | tensors
    manifest.hash = content_hash(manifest, held)
    return Artifact(manifest, held)


def _encoder_of(base: Manifest) -> dict[str, Any]:
    """What the depth encoder of a model was trained on; nothing where that model does not say it."""
    found = base.provenance.get(ENCODER if base.kind == OWN else "series")
    if found is None and base.kind == OWN:
        return {}
    spans = [{name: one[name] for name in ("series", "instrument", "train_ns")} for one in found or ()]
    return {ENCODER: spans}


class Serving:
    """A model of the user's own where it serves: the addresses that compiled code calls, and what came of it."""

    def __init__(self, name: str, features: Features | None = None) -> None:
        self.name = name
        self.at: Array = np.zeros(1, np.int64)
        self.failure: Array = np.zeros(1, FAILURE)
        self.features = features
        self._kept: list[Any] = []  # compiled code holds their addresses alone
        self._parts: dict[Fault, Part] = {}
        self._raised: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether it has failed; it is not asked again."""
        return bool(self.failure["kind"][0])

    def check(self) -> None:
        """Raise what it failed with: UsageError in one line; an interrupt as itself."""
        if not self.failed:
            return
        kind, seq, place = (int(self.failure[name][0]) for name in ("kind", "seq", "place"))
        if self._raised is not None and not isinstance(self._raised, Exception):
            raise self._raised
        fault = Fault(kind)
        of_features = fault in (Fault.FEATURES_RAISED, Fault.INPUT)
        part = self._parts[Fault.FEATURES_RAISED if of_features else Fault.MODEL_RAISED]
        where = f"{part.whose}, at event {seq}" if seq else part.whose
        if fault in (Fault.MODEL_RAISED, Fault.FEATURES_RAISED):
            raise UsageError(f"{where}: {why(self._raised)}") from self._raised
        raise UsageError(f"{where}: {self._said_wrong(fault, place)}{part.place}")

    def _said_wrong(self, fault: Fault, place: int) -> str:
        if fault is Fault.INPUT:
            assert self.features is not None
            return f"the input {self.features.names[place]} is not finite"
        horizon = HORIZON_NAMES[place]
        return {
            Fault.NUMBER: f"what it says of {horizon} is not finite",
            Fault.PROBABILITIES: f"the probabilities of {horizon} are below 0, or do not add up to 1",
            Fault.CROSSING: f"the quartiles of {horizon} do not rise",
            Fault.PARTLY: f"of {horizon} it says some of three quartiles, or of three classes: all, or none",
        }[fault]

    def entry(self, part: Part, raises: Fault, n: int) -> int:
        """The address of a function that fails as `raises`; a model is shown `n` numbers, features write them."""
        self._parts[raises] = part
        model = raises is Fault.MODEL_RAISED
        made = _compiled(part, n, model=model) if part.compiled else self._plain(part, n, model=model)
        self._kept.append(made)
        return address_of(made)

    def _plain(self, part: Part, n: int, *, model: bool) -> Any:
        """An entry point that goes on in Python."""
        function, takes, remembered = part.function, part.takes, part.memory
        known: dict[tuple[int, int, int], tuple[Any, ...]] = {}

        def entry(first: int, second: int, memory: int) -> int:
            try:
                told = known.get((first, second, memory))
                if told is None:
                    told = known[first, second, memory] = _views(
                        first, second, memory, n, remembered, model=model
                    )
                function(*told[:takes])
            except BaseException as error:  # nothing may be raised through compiled code: `check` raises it
                self._raised = error
                return 0
            return ANSWERED

        return ENTRY(entry)


def _views(first: int, second: int, memory: int, n: int, remembered: int, *, model: bool) -> tuple[Any, ...]:
    """What a function in Python is given of three addresses."""
    mine = numbers_at(memory, remembered) if remembered else None
    if model:
        said = np.frombuffer(numbers_at(second, SAID.itemsize // 8), SAID)[0]
        return numbers_at(first, n), Forecast(said), mine
    return record_at(first, SEEN), numbers_at(second, n), mine


def _compiled(part: Part, n: int, *, model: bool) -> Any:
    """An entry point that stays in compiled code."""
    function, remembered = part.bounded, (part.memory,)
    number, shape, of_said, of_seen = np.float64, (n,), SAID, SEEN

    def says(x: int, said: int, _: int) -> int:
        try:
            function(carray(pointer(x), shape, number), carray(pointer(said), (1,), of_said)[0])
        except Exception:  # else numba would print it, and go on
            return 0
        return ANSWERED

    def says_and_remembers(x: int, said: int, memory: int) -> int:
        try:
            function(
                carray(pointer(x), shape, number),
                carray(pointer(said), (1,), of_said)[0],
                carray(pointer(memory), remembered, number),
            )
        except Exception:
            return 0
        return ANSWERED

    def sees(seen: int, own: int, _: int) -> int:
        try:
            function(carray(pointer(seen), (1,), of_seen)[0], carray(pointer(own), shape, number))
        except Exception:
            return 0
        return ANSWERED

    def sees_and_remembers(seen: int, own: int, memory: int) -> int:
        try:
            function(
                carray(pointer(seen), (1,), of_seen)[0],
                carray(pointer(own), shape, number),
                carray(pointer(memory), remembered, number),
            )
        except Exception:
            return 0
        return ANSWERED

    forgetful, remembering = (says, says_and_remembers) if model else (sees, sees_and_remembers)
    return compile_entry(part.whose, forgetful if part.takes == 2 else remembering)
