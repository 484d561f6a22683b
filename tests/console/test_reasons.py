"""No reason is too long to be obeyed: over the socket, by whoever writes to it, and over HTTP."""

import asyncio
import json
import socket
from pathlib import Path

from emp.engine.control_socket import ControlSocket, ask
from tests.console.kit import TOKEN, served

LONG = ("x" * 4_200, "я" * 700, "🔥" * 340, "🔥" * 4_000)


def raw(path: Path, line: bytes) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(line + b"\n")
        return sock.makefile("r").readline()


def test_a_long_reason_is_cut_and_refuses_no_kill(tmp_path: Path) -> None:
    kept: list[str] = []

    def take(action: str, reason: str, instrument: str) -> str:
        kept.append(reason)
        return action

    async def script() -> None:
        control = ControlSocket(tmp_path, ("GC",), take, dict)
        await control.start()
        with served() as page:
            page.console.attach(tmp_path)
            headers = {"Origin": page.server.url, "Content_Type": "application/json", "X_Emp_Token": TOKEN}
            for reason in LONG:
                said = {"do": "kill", "reason": reason}
                assert await asyncio.to_thread(ask, tmp_path, said) == "kill"
                line = json.dumps(said).encode()
                assert "kill" in await asyncio.to_thread(raw, tmp_path / "control.sock", line)
                body = json.dumps({"do": "halt", "reason": reason}, ensure_ascii=False).encode()
                answer = await asyncio.to_thread(page.ask, "POST", "/control", body, **headers)  # type: ignore[arg-type]
                assert answer.status == 200, answer.body
            assert await asyncio.to_thread(ask, tmp_path, {"do": "kill", "reason": "x" * 200_000}) == "kill"
        await control.close()

    asyncio.run(script())
    assert kept == [reason[:200] for reason in LONG for _ in range(3)] + ["x" * 200]
