"""Browsers of other makers than Chromium's, each through the protocol that it speaks itself: Firefox and WebKit.

Firefox speaks WebDriver BiDi over a web socket; WebKitGTK speaks classic WebDriver over HTTP, on a display of its own.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

START_S = 60.0
MINI_BROWSER = "usr/lib/*/webkit2gtk-*/MiniBrowser"


class Tab(Protocol):
    """A window on a page."""

    narrowest: int  # CSS pixels that a window of it can have
    errors: list[str]  # that the page has told

    def goto(self, url: str) -> None:
        """Load a page."""

    def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression on the page."""

    def resize(self, width: int, height: int) -> None:
        """Give the page so many CSS pixels."""

    def picture(self) -> bytes:
        """What is seen, as PNG."""


class Firefox:
    """A tab of Firefox."""

    narrowest = 0

    def __init__(self, socket: Any) -> None:
        self._socket, self._count = socket, 0
        self.errors: list[str] = []
        self._ask("session.new", capabilities={})
        self._ask("session.subscribe", events=["log.entryAdded"])
        self._context = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def goto(self, url: str) -> None:
        self._ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        found = self._ask(
            "script.evaluate",
            expression=f"JSON.stringify({expression})",
            target={"context": self._context},
            awaitPromise=False,
        )
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    def resize(self, width: int, height: int) -> None:
        self._ask(
            "browsingContext.setViewport", context=self._context, viewport={"width": width, "height": height}
        )

    def picture(self) -> bytes:
        return base64.b64decode(self._ask("browsingContext.captureScreenshot", context=self._context)["data"])

    def _ask(self, method: str, **params: Any) -> Any:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=START_S))
            if told.get("method") == "log.entryAdded":
                entry = told["params"]
                if entry["level"] == "error":
                    self.errors.append(str(entry.get("text")))
            elif told.get("id") == self._count:
                assert told["type"] == "success", told
                return told["result"]


class WebKit:
    """A tab of WebKitGTK's MiniBrowser."""

    narrowest = 450  # below that its toolbar does not fit

    def __init__(self, address: str, binary: str) -> None:
        self.errors: list[str] = []
        options = {"binary": binary, "args": ["--automation"]}
        asked = {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options}
        self._address = address
        made = self._ask("POST", "session", {"capabilities": {"alwaysMatch": asked}})
        self._session = f"session/{made['sessionId']}"

    def goto(self, url: str) -> None:
        self._ask("POST", f"{self._session}/url", {"url": url})

    def evaluate(self, expression: str) -> Any:
        script = f"return JSON.stringify({expression}) ?? 'null'"
        return json.loads(self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": []}))

    def resize(self, width: int, height: int) -> None:
        inner = self.evaluate("[innerWidth, innerHeight]")
        rect = self._ask("GET", f"{self._session}/window/rect")
        wanted = {"width": rect["width"] + width - inner[0], "height": rect["height"] + height - inner[1]}
        self._ask("POST", f"{self._session}/window/rect", wanted)
        end = time.monotonic() + 5  # the display tells the page when it likes
        while self.evaluate("innerWidth") > max(width, self.narrowest) and time.monotonic() < end:
            time.sleep(0.05)

    def picture(self) -> bytes:
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._ask("DELETE", self._session)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}/{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=START_S) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from None


def missing(name: str) -> str:
    """What is not here of what a browser needs; "" where nothing is missing."""
    if name == "firefox":
        return "" if _firefox() else "firefox-esr"
    wanted = {"WebKitWebDriver": "webkit2gtk-driver", "Xvfb": "xvfb"}
    lacking = [package for command, package in wanted.items() if shutil.which(command) is None]
    return ", ".join(lacking)


def _firefox() -> str | None:
    return shutil.which("firefox-esr") or shutil.which("firefox")


def _line(process: "subprocess.Popen[str]", pattern: str) -> str:
    """The first group of the first line that a process says and that matches."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(pattern, line)
        if found:
            return found[1]
    raise AssertionError("it ended without a word")


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=START_S)


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """Firefox without a window, with a profile of its own that asks nobody for anything."""
    from websockets.sync.client import connect

    command = _firefox()
    assert command is not None
    profile = folder / "profile"
    profile.mkdir()
    quiet = (
        "app.normandy.enabled",
        "datareporting.policy.dataSubmissionEnabled",
        "network.captive-portal-service.enabled",
    )
    (profile / "user.js").write_text("".join(f'user_pref("{name}", false);\n' for name in quiet))
    words = [command, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    process = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HOME": str(folder)},
    )
    with _ended(process):
        address = _line(process, r"BiDi listening on (\S+)")
        with connect(f"{address}/session", max_size=1 << 26, proxy=None) as socket:
            yield Firefox(socket)


@contextmanager
def webkit(folder: Path) -> Iterator[WebKit]:
    """WebKitGTK on a display of its own."""
    binary = next(Path("/").glob(MINI_BROWSER), None)
    assert binary is not None, "webkit2gtk-driver came without its MiniBrowser"
    with ExitStack() as stack:
        read, write = os.pipe()
        screen = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1200x24", "-nolisten", "tcp"]
        stack.enter_context(
            _ended(subprocess.Popen(screen, pass_fds=[write], stderr=subprocess.PIPE, text=True))
        )
        os.close(write)
        with os.fdopen(read) as told:
            display = f":{told.readline().strip()}"
        env = os.environ | {"DISPLAY": display, "HOME": str(folder), "WEBKIT_DISABLE_COMPOSITING_MODE": "1"}
        port = _free_port()
        driver = subprocess.Popen(
            ["WebKitWebDriver", f"--port={port}"],
            env=env,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        stack.enter_context(_ended(driver))
        address = f"http://127.0.0.1:{port}"
        _until_answers(f"{address}/status")
        tab = WebKit(address, str(binary))
        stack.callback(tab.close)
        yield tab


def _free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _until_answers(url: str) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < end, f"{url} does not answer"
            time.sleep(0.1)
