"""Wires that are cut: one that swallows, and one of a network of its own that loses packets."""

import os
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from emp.app.bench.mirrored.wire import LossyWire, Wire, own_network
from emp.core.errors import UsageError
from tests.kit.services import needed

PATIENCE_S = 60.0


def meanwhile(wire: Wire, near: socket.socket, far: socket.socket) -> None:
    """Nothing comes through a wire that is cut."""
    wire.cut()
    near.sendall(b"during")
    far.settimeout(0.5)
    with pytest.raises(TimeoutError):
        far.recv(6)


def tried(make: type[Wire], trial: Callable[[Wire, socket.socket, socket.socket], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = make(server.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", wire.port), PATIENCE_S) as near:
                near.sendall(b"before")
                far, _ = server.accept()
                with far:
                    far.settimeout(PATIENCE_S)
                    assert far.recv(6) == b"before"
                    trial(wire, near, far)
        finally:
            wire.close()


def test_a_wire_that_is_joined_again_has_lost_its_connections() -> None:
    def trial(wire: Wire, near: socket.socket, far: socket.socket) -> None:
        meanwhile(wire, near, far)
        wire.join()
        far.settimeout(PATIENCE_S)
        with suppress(ConnectionResetError):
            assert far.recv(6) == b""

    tried(Wire, trial)


def test_packets_that_were_lost_come_late_and_nobody_connects_meanwhile() -> None:
    ready = os.geteuid() == 0 and bool(shutil.which("nft")) and bool(shutil.which("ip"))
    needed(ready, "no network of its own: be root, install nftables and iproute2")

    def trial(wire: Wire, near: socket.socket, far: socket.socket) -> None:
        meanwhile(wire, near, far)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", wire.port), 0.5)
        wire.join()
        far.settimeout(PATIENCE_S)
        assert far.recv(6) == b"during"

    raised: list[BaseException] = []

    def alone() -> None:
        try:
            own_network()
            tried(LossyWire, trial)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=alone)  # the network is that of one thread and of what it starts
    thread.start()
    thread.join()
    assert raised == []


def test_a_network_of_its_own_asks_for_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="root, nft and ip"):
        own_network()
