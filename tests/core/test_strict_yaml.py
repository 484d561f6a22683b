"""What could be read in two ways, or not be written again, is an error of the file and no surprise."""

from importlib import resources
from pathlib import Path

import pytest
import yaml

from emp.core.errors import ConfigError
from emp.core.strict_yaml import load_own_yaml, load_yaml
from emp.engine.rates import read_rates


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\na: 2", "a stands there twice"),
        ("b: {a: 1, a: 2}", "a stands there twice"),
        ('a: "\\ud800"', "half of a character"),
        ("[" * 5000, "nested too deeply"),
        ("a: 2020-99-99", "month must be in 1..12"),
    ],
)
def test_what_is_no_single_thing_is_refused(text: str, why: str) -> None:
    with pytest.raises(yaml.YAMLError, match=why):
        load_yaml(text.encode())


def test_what_is_plain_is_read() -> None:
    assert load_yaml(b"base: &base {a: 1, b: 2}\nmine: {<<: *base, b: 3}")["mine"] == {"a": 1, "b": 3}
    assert load_yaml("name: \u00e9\U0001f600".encode()) == {"name": "\u00e9\U0001f600"}


def test_a_rate_that_is_said_twice_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text("JPY: 0.0067\nJPY: 0.67\n")
    with pytest.raises(ConfigError, match="JPY stands there twice"):
        read_rates(path, ["JPY"], 0)


def test_files_of_the_package_say_the_same_to_the_strict_reader() -> None:
    data = resources.files("emp.core").joinpath("data")
    files = [one for one in data.iterdir() if one.name.endswith(".yaml")]
    assert len(files) > 1
    for file in files:
        assert load_own_yaml(file.read_bytes()) == load_yaml(file.read_bytes()), file.name
