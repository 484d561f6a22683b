"""Credentials are found or named, kept from others, and never shown."""

import copy
import io
import logging
import os
import pickle
import pprint
import traceback
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from rich.traceback import Traceback

from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret, load_secrets, read_secrets_file
from emp.core.errors import ConfigError

WORD = "hunter2-very-secret"
LIVE = """
mode: {mode}
instruments: {{names: [EURUSD]}}
access: {{connection_protocol: {protocol}}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EMP_SECRETS_FILE", raising=False)

    def _config(mode: str, protocol: str) -> SystemConfig:
        path = tmp_path / "c.yaml"
        path.write_text(LIVE.format(mode=mode, protocol=protocol))
        return SystemConfig.load(path)

    return _config


def secrets_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "secrets.env"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(WORD)
    stream = io.StringIO()
    logger = logging.getLogger("secrets-test")
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("%s %r", secret, {"password": secret})
    try:
        raise ValueError(secret)
    except ValueError as error:
        console = Console(file=stream, width=200)
        console.print(Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True))
        stream.write(
            "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        )
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s" % secret]  # noqa: UP031
    shown += [pprint.pformat([secret]), stream.getvalue(), str(dir(secret))]
    assert all(WORD not in text for text in shown)
    assert not hasattr(secret, "__dict__")
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.to_builtins):
        with pytest.raises(TypeError) as caught:
            leak(secret)
        assert WORD not in str(caught.value)
    assert secret.reveal() == WORD
    assert secret == Secret(WORD)
    assert secret != Secret("other")


def test_environment_wins_over_the_file_and_empty_is_absent(tmp_path: Path) -> None:
    path = secrets_file(tmp_path, f"# ours\nEMP_FIX_USERNAME=me\n\nEMP_FIX_PASSWORD = {WORD}=\n")
    found = load_secrets(
        {"EMP_SECRETS_FILE": str(path), "EMP_FIX_USERNAME": "you", "EMP_CTRADER_REFRESH_TOKEN": ""}
    )
    assert {name: s.reveal() for name, s in found.items()} == {
        "EMP_FIX_USERNAME": "you",
        "EMP_FIX_PASSWORD": f"{WORD}=",
    }


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = secrets_file(tmp_path, f"EMP_FIX_PASSWORD={WORD}\n", mode)
    with pytest.raises(ConfigError, match=r"others can read.*chmod 600") as caught:
        read_secrets_file(path)
    assert WORD not in str(caught.value)


@pytest.mark.parametrize("text", [f"{WORD}\n", f"PASSWORD={WORD}\n", f"EMP_FIX_PASSWORD={WORD}\n" * 2])
def test_a_malformed_file_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="line") as caught:
        read_secrets_file(secrets_file(tmp_path, text))
    assert WORD not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mock_never_asks_and_never_opens_the_file(config, monkeypatch: pytest.MonkeyPatch) -> None:
    mock = config("mock", "mock")
    monkeypatch.setenv("EMP_SECRETS_FILE", "/nonexistent")
    assert mock.credentials() == {}


@pytest.mark.parametrize("mode", ["paper", "live"])
@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (
            "fix",
            ["access.host", "access.port", "access.sender_comp_id", "EMP_FIX_USERNAME", "EMP_FIX_PASSWORD"],
        ),
        ("ctrader", ["access.account", "EMP_CTRADER_CLIENT_ID", "EMP_CTRADER_CLIENT_SECRET"]),
    ],
)
def test_paper_and_live_name_every_missing_one_at_once(config, mode: str, protocol: str, names) -> None:
    with pytest.raises(ConfigError) as caught:
        config(mode, protocol).credentials("c.yaml")
    line = str(caught.value)
    assert line.startswith("c.yaml: ")
    assert "\n" not in line
    assert all(name in line for name in names)


def test_a_credential_in_the_configuration_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        LIVE.format(mode="mock", protocol="mock").replace("{connection", f"{{password: {WORD}, connection")
    )
    with pytest.raises(ConfigError, match="credentials come from the environment") as caught:
        SystemConfig.load(path)
    assert WORD not in str(caught.value)


def test_the_dump_of_a_configuration_holds_no_credential(config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_FIX_PASSWORD", WORD)
    assert WORD not in config("paper", "fix").model_dump_json()


def test_the_home_of_nobody_is_one_line() -> None:
    with pytest.raises(ConfigError, match="~nobody-of-that-name/secrets: there is no such home folder"):
        load_secrets({"EMP_SECRETS_FILE": "~nobody-of-that-name/secrets"})


@pytest.mark.parametrize(
    ("owner", "mode", "folder", "taken"),
    [
        (0, 0o440, "same", True),  # root's, with an entry for the service's user, as systemd lays it there
        (0, 0o400, "same", True),
        (0, 0o444, "same", False),
        (0, 0o460, "same", False),
        (12345, 0o440, "same", False),
        (0, 0o440, "other", False),
        (0, 0o440, "", False),
    ],
)
def test_a_credential_of_the_service_is_taken_as_systemd_lays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, folder: str, taken: bool
) -> None:
    path = secrets_file(tmp_path, f"EMP_FIX_PASSWORD={WORD}\n")
    facts = os.stat_result((0o100000 | mode, 1, 1, 1, owner, 0, 1, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: facts)
    monkeypatch.setattr("emp.core.config.secrets.is_ours", lambda _: False)  # of the service's user
    named = {"same": str(tmp_path), "other": str(tmp_path / "other"), "": ""}[folder]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", named)
    if taken:
        assert read_secrets_file(path)["EMP_FIX_PASSWORD"].reveal() == WORD
    else:
        with pytest.raises(ConfigError, match="secrets file"):
            read_secrets_file(path)
