"""`emp surrogate`: trained from a seed, judged, refused where it is not the simulator; one line on a mistake."""

import json
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.sim.surrogate.artifact import load_surrogate

QUICK = ["--model", "zi", "--kind", "linear", "--rounds", "2", "--episodes", "70", "--epochs", "1"]


def ends(*argv: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["surrogate", *argv])
    return int(stop.value.code or 0)


def test_a_surrogate_that_learned_next_to_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert ends("train", *QUICK, "--out", str(one), "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(told["leaps"]) == 2
    assert ends("train", *QUICK, "--out", str(two)) == 0
    assert load_surrogate(two).manifest.hash == told["surrogate"]  # the seed's alone
    assert ends("sweep", str(one)) != 0
    assert "never judged" in capsys.readouterr().err
    assert ends("validate", str(one), "--episodes", "60", "--json") == 1
    judged = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert judged["passed"] is False
    assert set(judged["verdict"]) == {"alpha", "turnover", "fills", "inventory", "ranks"}
    assert load_surrogate(one).manifest.verdict["passed"] is False
    assert ends("sweep", str(one)) != 0
    assert "train it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["train", "--kind", "forest"], "choose one of linear, mlp, graph"),
        (["train", "--model", "nowhere"], "no flow model file nowhere"),
        (["validate", "nowhere"], "no such file: not a surrogate"),
        (["validate", "tau:x"], "whole number above 0"),
        (["validate", "tau:7"], "do not end at decisions"),
        (["sweep", "nowhere"], "no such file: not a surrogate"),
        (["sweep", "nowhere", "--agents", "2", "--best", "3"], "there are not as many"),
    ],
)
def test_a_mistake_ends_in_one_line(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(*argv) != 0
    said = capsys.readouterr().err
    assert line in said
    assert "Traceback" not in said
