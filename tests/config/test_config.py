"""The file comes first, the environment overrides single fields, every mistake is one line with its place."""

import json
import os
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.core.config.config import SystemConfig
from emp.core.errors import ConfigError
from emp.core.instrument import catalogue

ROOT = Path(__file__).resolve().parents[2]
BASE = "mode: mock\ninstruments: {names: [EURUSD]}\n"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("EMP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def _write(text: str) -> Path:
        Path("mock.yaml").write_text(text)
        return Path("mock.yaml")

    return _write


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        SystemConfig.load(path)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ["mock", "observe", "paper", "live"])
def test_the_examples_load(name: str) -> None:
    assert SystemConfig.load(ROOT / f"examples/{name}.yaml").mode == name


def test_every_setting_says_where_it_comes_from(write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(BASE + "risk: {max_position_lots: 20}\naccess: {symbols: {EURUSD: EUR/USD}}\n")
    monkeypatch.setenv("EMP_RISK__MAX_POSITION_LOTS", "7")
    monkeypatch.setenv("EMP_SEED", "3")
    config = SystemConfig.load(path)
    found = config.origins(path)
    assert found["risk.max_position_lots"] == (7, "EMP_RISK__MAX_POSITION_LOTS")
    assert found["seed"] == (3, "EMP_SEED")
    assert found["mode"] == ("mock", "mock.yaml")
    assert found["access.symbols"] == ({"EURUSD": "EUR/USD"}, "mock.yaml")
    assert found["risk.max_order_lots"] == (config.risk.max_order_lots, "default")
    assert {name for name, one in found.items() if one.source != "default"} == {
        "mode",
        "seed",
        "instruments.names",
        "access.symbols",
        "risk.max_position_lots",
    }


def test_the_commands_show_settings_and_schema(write, capsys: pytest.CaptureFixture[str]) -> None:
    write(BASE)
    for words in (["config", "show", "mock.yaml", "--changed", "--json"], ["config", "schema"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    shown, schema = capsys.readouterr().out.split("\n", 1)
    assert json.loads(shown) == {
        "mode": {"value": "mock", "source": "mock.yaml"},
        "instruments.names": {"value": ["EURUSD"], "source": "mock.yaml"},
    }
    assert set(json.loads(schema)["properties"]) == set(SystemConfig.model_fields)


def test_environment_overrides_only_the_field_it_names(write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(BASE + "risk: {max_position_lots: 20, max_order_lots: 3}\nseed: 5\n")
    monkeypatch.setenv("EMP_RISK__MAX_POSITION_LOTS", "7")
    config = SystemConfig.load(path)
    assert (config.risk.max_position_lots, config.risk.max_order_lots, config.seed) == (7, 3, 5)


def test_without_variables_the_file_stands_and_an_empty_one_counts_as_unset(write, monkeypatch) -> None:
    path = write(BASE + "risk: {max_position_lots: 20}\n")
    assert SystemConfig.load(path).risk.max_position_lots == 20
    monkeypatch.setenv("EMP_RISK__MAX_POSITION_LOTS", "")
    assert SystemConfig.load(path).risk.max_position_lots == 20


@pytest.mark.parametrize("value", ["GC,ES", " GC , ES ", '["GC", "ES"]'])
def test_a_list_in_a_variable(write, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EMP_INSTRUMENTS__NAMES", value)
    assert SystemConfig.load(write(BASE)).instruments.names == ("GC", "ES")


@pytest.mark.parametrize("spelling", ["fix", "FIX", "  Fix \t"])
def test_protocol_is_normalised_from_file_and_environment(write, monkeypatch, spelling: str) -> None:
    path = write(BASE.replace("mock", "paper") + f'access: {{connection_protocol: "{spelling}"}}\n')
    assert SystemConfig.load(path).access.connection_protocol == "fix"
    monkeypatch.setenv("EMP_ACCESS__CONNECTION_PROTOCOL", spelling.replace("x", "X"))
    assert SystemConfig.load(path).access.connection_protocol == "fix"


def test_the_configuration_is_frozen(write) -> None:
    config = SystemConfig.load(write(BASE))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValueError, match="frozen"):
        config.risk.max_order_lots = 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "risk: {max_positon_lots: 3}",
            "mock.yaml: risk.max_positon_lots: no such setting; did you mean max_p",
        ),
        ("acces: {}", "mock.yaml: acces: no such setting; did you mean access?"),
        ("max_position_lots: 3", "max_position_lots: no such setting; did you mean risk.max_position_lots?"),
        ("risk: {max_position_lots: many}", "mock.yaml: risk.max_position_lots: must be a valid integer"),
        ("risk: {max_position_lots: true}", "mock.yaml: risk.max_position_lots: must be a number"),
        ("risk: {max_position_lots: 2.5}", "mock.yaml: risk.max_position_lots: must be a valid integer"),
        ("risk: {max_position_lots: 0}", "mock.yaml: risk.max_position_lots: must be greater than 0, was 0"),
        ("risk: {max_daily_loss_ticks: .nan}", "mock.yaml: risk.max_daily_loss_ticks: must be"),
        (
            "risk: {max_daily_loss_ticks: .inf}",
            "mock.yaml: risk.max_daily_loss_ticks: must be a finite number, was inf",
        ),
        ("risk:", "mock.yaml: risk: must be a mapping"),
        ("risk: [1]", "mock.yaml: risk: must be a mapping"),
        ("seed: 1\nseed: 2", "mock.yaml: line 4: not valid YAML: seed stands there twice"),
        ("risk: {", "mock.yaml: line 4: not valid YAML"),
        ("? [a]\n: b", "mock.yaml: "),
        ("http: {host: 0.0.0.0}", "http.host: 0.0.0.0 can be reached from other machines"),
        ("risk: {max_position_lots: 2, max_order_lots: 3}", "risk.max_order_lots: 3 is above"),
        (
            "access: {connection_protocol: ctrader}",
            "access.connection_protocol: ctrader contradicts mode: mock",
        ),
        ("access: {recording: a.csv}", "access.recording: must be given with connection_protocol: recording"),
        ("access: {connection_protocol: recording}", "access.recording: must be given"),
        ("access: {connection_protocol: kafka}", "access.connection_protocol: kafka contradicts mode: mock"),
        (
            "access: {connection_protocol: kafka}",
            "access.kafka: must be given with connection_protocol: kafka",
        ),
        ("access: {kafka: 'h:9092'}", "access.kafka: contradicts mode: mock over mock"),
        ("access: {recorder_host: h}", "access.recorder_host: must be given with access.kafka alone"),
        ("access: {history_s: 60}", "access.history_s: must be given with access.kafka alone"),
        ("risk: {max_turnover_per_minute_lots: 9000}", "max_turnover_per_minute_lots: 9000 is above"),
        ("warm_up_events: 99999999999999999999", "warm_up_events: must be less than or equal to"),
        (
            "risk: {max_position_lots: 99999999999999999999}",
            "max_position_lots: must be less than or equal to",
        ),
        ("bus: {queue_bound: 2000000000}", "bus.queue_bound: must be less than or equal to 262144"),
        ("journal: {flush_seconds: 3600}", "journal.flush_seconds: must be less than or equal to 600"),
        ("journal: {flush_seconds: 1.0e+308}", "journal.flush_seconds: must be less than or equal to"),
        ("seed: 1" + "0" * 5_000, "not valid YAML: Exceeds the limit"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(write, text: str, expected: str) -> None:
    assert expected in refusal(write(BASE + text + "\n"))


def test_all_mistakes_are_named_at_once(write) -> None:
    line = refusal(write("mode: mokc\nrisk: {max_order_lots: x}\n"))
    assert "mode: must be 'mock', 'observe', 'paper' or 'live', was 'mokc'" in line
    assert "instruments: must be given" in line
    assert "risk.max_order_lots" in line


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "5\n", "1: 2\n", "\x00"])
def test_a_file_that_is_no_configuration(write, text: str) -> None:
    assert refusal(write(text)).startswith("mock.yaml: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.yaml").endswith("no such file or directory")
    assert "directory" in refusal(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refusal(tmp_path / "binary.yaml")
    assert "larger than 4 mib" in refusal(Path("/dev/zero"))


def test_a_catalogue_without_end_is_one_line() -> None:
    for path in (Path("/dev/zero"), Path("/dev/urandom")):
        with pytest.raises(ConfigError, match="larger than 4 MiB") as refused:
            catalogue(path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "EMP_RISK__MAX_POSITION_LOTS",
            "abc",
            "environment: EMP_RISK__MAX_POSITION_LOTS: must be a valid int",
        ),
        ("EMP_RISK__MAX_POSITON_LOTS", "1", "did you mean EMP_RISK__MAX_POSITION_LOTS?"),
        ("EMP_MDOE", "live", "did you mean EMP_MODE?"),
        ("EMP_RISK", "{}", "EMP_RISK: a section"),
        ("EMP_INSTRUMENTS__NAMES", '["a"', "not valid JSON"),
        ("EMP_MODE", "paper", "(set in the environment: EMP_MODE)"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(write, monkeypatch, name, value, expected) -> None:
    monkeypatch.setenv(name, value)
    assert expected in refusal(write(BASE))


def test_variables_of_others_are_left_alone(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_DATA", "/somewhere")
    monkeypatch.setenv("EMP_FIX_PASSWORD", "x")
    monkeypatch.setenv("EMP_REDIS_URL", "x")
    monkeypatch.setenv("EMP_REQUIRE_SERVICES", "1")
    monkeypatch.setenv("EMPEROR", "x")
    SystemConfig.load(write(BASE))


@pytest.mark.parametrize(
    ("section", "mistake"),
    [
        ("{ssm_impl: mamba4}", "model.ssm_impl"),
        ("{fallback_impl: mamba3}", "model.fallback_impl"),
        ("{ssm_impl: mamba2, fallback_impl: mamba2}", "model.fallback_impl: mamba2 is what serves already"),
        (
            "{fallback_impl: none, fallback_artifact: x}",
            "model.fallback_artifact: contradicts fallback_impl: none",
        ),
        ("{p99_ms: 1.0}", "model.p99_ms: 1 is above model.total_p99_ms: 0.85"),
        ("{state_ttl_s: 0}", "model.state_ttl_s"),
    ],
)
def test_a_model_section_that_cannot_be_meant_is_one_line(write, section: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SystemConfig.load(write(BASE + f"model: {section}\n"))
    assert mistake in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_kinds_of_the_model_are_read_whatever_their_case(write, monkeypatch) -> None:
    monkeypatch.setenv("EMP_MODEL__FALLBACK_IMPL", " Linear")
    model = SystemConfig.load(write(BASE + "model: {ssm_impl: Mamba3}\n")).model
    assert (model.ssm_impl, model.fallback_impl) == ("mamba3", "linear")


RECORDED = (
    "mode: paper\ninstruments: {{names: [{names}]}}\n"
    "access: {{connection_protocol: recording, recording: {files}}}\n"
)


def test_each_instrument_has_a_recording_of_its_own(write, monkeypatch) -> None:
    one = SystemConfig.load(write(RECORDED.format(names="GOOG", files="a.csv")))
    two = SystemConfig.load(write(RECORDED.format(names="GOOG, AAPL", files="{AAPL: a.csv, GOOG: g.csv}")))
    assert one.recordings == [Path("a.csv")]
    assert two.recordings == [Path("g.csv"), Path("a.csv")], "in the order of the instruments"
    monkeypatch.setenv("EMP_ACCESS__RECORDING", "of, the day.csv")
    assert SystemConfig.load(write(RECORDED.format(names="GOOG", files="a.csv"))).recordings == [
        Path("of, the day.csv")
    ]
    monkeypatch.setenv("EMP_ACCESS__RECORDING", '{"GOOG": "g.csv"}')
    assert SystemConfig.load(write(RECORDED.format(names="GOOG", files="a.csv"))).recordings == [
        Path("g.csv")
    ]
    monkeypatch.setenv("EMP_ACCESS__RECORDING", '{"GOOG"')
    assert "the mapping for recording is not valid JSON" in refusal(
        write(RECORDED.format(names="GOOG", files="a"))
    )


@pytest.mark.parametrize(
    ("names", "files", "mistake"),
    [
        ("GOOG, AAPL", "a.csv", "access.recording: name a file for each instrument, as in 'GOOG: FILE'"),
        (
            "GOOG, AAPL",
            "{GOOG: a}",
            "access.recording: has files of GOOG, instruments.names are GOOG, AAPL",
        ),
        ("GOOG", "{MSFT: a}", "access.recording: has files of MSFT, instruments.names are GOOG"),
        (
            "GOOG",
            "[a, b]",
            "access.recording: must be a path, or of several instruments NAME: FILE for each",
        ),
        ("GOOG", "{}", "access.recording: must be a path, or of several"),
        ("GOOG", "5", "access.recording: must be a path, or of several"),
    ],
)
def test_recordings_that_are_not_one_for_each_instrument(write, names: str, files: str, mistake: str) -> None:
    assert mistake in refusal(write(RECORDED.format(names=names, files=files)))
