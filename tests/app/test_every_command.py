"""Every command that the parser has, new ones too: what will not do is one line, and so is where the output goes."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emp.app.cli import main
from tests.app.sweep import FILLED, Spoilt, leaves, name_of, spoilt_lines
from tests.app.test_bad_input import lobster

WITHOUT_JSON = {("box", "serve"), ("config", "schema"), ("gates", "show"), ("init",)}
"""A protocol, two files as they stand, and the one that writes files."""

GO_ON = {
    ("bench", "fix"): "builds its peers, for minutes",
    ("bench", "sim"): "builds its peers, for minutes",
    ("chaos",): "makes the file",
    ("doctor",): "finds out, and says the rest too: a line each",
}
"""Commands that what is spoilt does not stop at once."""


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoilt")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    (folder / "junk").write_bytes(bytes(range(256)) * 12)
    (folder / "zip").write_bytes(b"PK\x03\x04" + bytes(range(256)))
    return folder


@pytest.fixture
def emp(
    spoilt: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(spoilt)
    for name in ("EMP_REGISTRY", "EMP_RUN_DIR"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


KINDS = ("missing", "empty", "folder", "junk", "zip")
LINES = [one for one in spoilt_lines() if one.command not in GO_ON]


@pytest.mark.parametrize("one", LINES, ids=lambda one: f"{' '.join(one.command)} {one.parameter}")
def test_a_file_that_will_not_do_is_one_line(
    emp: Callable[..., tuple[int, str, str]], spoilt: Path, one: Spoilt
) -> None:
    for kind in KINDS:
        if (*one.command, kind) in ACCEPTED:
            continue
        line = [word.replace("{}", kind) for word in one.line]
        code, out, err = emp(*line)
        assert code not in (0, 130), line
        assert err.startswith("emp: "), (line, err)
        assert err.count("\n") == 1, (line, err)
        assert out == "", (line, out)
    assert {path.name for path in spoilt.iterdir()} - {"registry"} == {*KINDS} - {"missing"}


ACCEPTED = {
    ("gates", "take", "folder"): "a registry that has nothing yet",
}


def test_every_command_is_spoilt_or_reads_no_file() -> None:
    named = {one.command for one in spoilt_lines()}
    assert {("replay",), ("run",), ("why",), ("gates", "check"), ("sim", "calibrate"), ("evaluate",)} <= named


def test_every_command_has_json_but_those_that_are_known_to_have_none() -> None:
    without = {words for words, command in leaves() if "json" not in map(name_of, command.params)}
    assert without == WITHOUT_JSON


@pytest.fixture
def into(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    opened: list[Any] = []

    def replaced(stream: Any) -> None:
        opened.append(stream)
        monkeypatch.setattr(sys, "stdout", stream)

    yield replaced
    for stream in opened:
        try:
            stream.close()
        except OSError:
            stream = None


def full_disk() -> Any:
    return open("/dev/full", "w", encoding="utf-8")


def gone_reader() -> Any:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


@pytest.mark.parametrize(
    ("stream", "code", "said"),
    [(full_disk, 74, "emp: cannot write the output: no space left on device\n"), (gone_reader, 1, "")],
)
def test_an_output_that_cannot_be_written_is_one_line_at_most(
    into: Callable[[Any], None],
    capsys: pytest.CaptureFixture[str],
    stream: Callable[[], Any],
    code: int,
    said: str,
) -> None:
    for words, _ in leaves():
        into(stream())
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert (ended.value.code, capsys.readouterr().err) == (code, said), words


def test_an_interrupt_is_one_line_in_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for words, command in leaves():
        monkeypatch.setattr(type(command), "invoke", interrupted)
        with pytest.raises(SystemExit) as ended:
            main([*words, *filled(command)])
        assert (ended.value.code, capsys.readouterr().err) == (130, "emp: interrupted\n"), words


def filled(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.required:
            value = FILLED.get(name_of(parameter), "1")
            yield from (value,) if parameter.param_type_name == "argument" else (parameter.opts[0], value)


def test_colour_is_left_out_where_nobody_wants_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "")
    for words, _ in leaves():
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        assert "\x1b[3" not in capsys.readouterr().out, words


QUICK: dict[tuple[str, ...], set[str]] = {
    ("audit",): {"audit"},
    ("config", "show"): set(),
    ("context",): {"instruments"},
    ("formats",): set(),
    ("instruments", "list"): set(),
    ("instruments", "show", "GOOG"): set(),
    ("models",): set(),
    ("runs",): {"runs"},
    ("status",): {"running"},
}
"""Commands that are done at once, and keys of what they say."""


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_json_stands_alone_on_stdout(
    emp: Callable[..., tuple[int, str, str]], words: tuple[str, ...]
) -> None:
    code, out, _ = emp(*words, "--json")
    assert code in (0, 1)
    assert QUICK[words] <= json.loads(out).keys(), out[:200]


REPLAYED = {
    "rows", "events", "merged", "quarantined", "states", "actions", "fills", "final_position", "pnl_ticks", "fees",
    "adapter_us", "model_us", "total_us", "events_per_s", "action_log_sha256", "model_hash", "expected_value_per_lot",
    "realised_value_per_lot", "counterfactual_share", "halted_by", "spans", "losses",
}  # fmt: skip
LISTED = {
    "run", "mode", "instruments", "model_hash", "began", "ended", "pnl_ticks", "fees", "fills", "halted",
}  # fmt: skip


@pytest.mark.usefixtures("compiled_engine")
def test_json_of_a_run_and_of_what_is_asked_about_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message, _ = lobster(tmp_path)

    def said(*words: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        found = capsys.readouterr().out
        assert ended.value.code == 0, words
        told: dict[str, Any] = json.loads(found)
        return told

    assert said("replay", str(message), "--instrument", "GOOG").keys() >= REPLAYED
    (run,) = (tmp_path / "runs").iterdir()
    (listed,) = said("runs")["runs"]
    assert listed.keys() >= LISTED
    decided = said("why", str(run))
    assert decided
    said("report", str(run))
    assert said("config", "show")
