"""A WireGuard tunnel between a provisioned system and another machine, both ends in network namespaces of their own."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

BOX, HOME = "emp-drill-box", "emp-drill-home"
WIRE = {BOX: "192.0.2.1", HOME: "192.0.2.2"}
INSIDE = "10.77.0.1"
OTHER_PORT = 2222
"""Where the box's sshd listens as well, for something that no rule lets in."""

ASKED = "import socket; s = socket.create_connection(('{host}', {port}), 5); s.settimeout(5); print(s.recv(7).decode())"
"""What a port says first; it fails where nothing does."""


class Ends:
    """Box and home, joined by a wire. A kernel that has no WireGuard is helped by wireguard-go of the system."""

    def __init__(self, root: Path, told: Mapping[str, str]) -> None:
        self._root = root
        self._told = {
            **told,
            "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go",
            "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1",
        }

    def run(self, end: str, line: str) -> "subprocess.CompletedProcess[str]":
        """Run a line as root in the system, at one end."""
        command = ["ip", "netns", "exec", end, "chroot", self._root, "sh", "-c", line]
        return subprocess.run(
            command, env=self._told, capture_output=True, text=True, check=False, timeout=60
        )

    def must(self, end: str, line: str) -> str:
        """The same; what it said. It must succeed."""
        done = self.run(end, line)
        if done.returncode:
            raise SystemExit(f"tunnel: {line}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout.strip()

    def hears(self, host: str, port: int, end: str = HOME) -> str:
        """What an end hears first of a port of the box; nothing where it is let in nowhere."""
        return self.run(end, f'python3 -c "{ASKED.format(host=host, port=port)}"').stdout.strip()

    def peer(self) -> None:
        """Bring home's end up, with a key that the box knows, and the box's end anew with that."""
        key = self.must(HOME, "wg genkey")
        public = self.must(HOME, f"echo {key} | wg pubkey")
        own = self.must(BOX, "sed -n 's/^PrivateKey = //p' /etc/wireguard/wg-emp.conf | wg pubkey")
        peer = f"\n[Peer]\nPublicKey = {public}\nAllowedIPs = 10.77.0.2/32\n"
        with (self._root / "etc/wireguard/wg-emp.conf").open("a") as file:
            file.write(peer)
        home = self._root / "etc/wireguard/wg-home.conf"
        home.touch(0o600)
        home.write_text(
            f"[Interface]\nPrivateKey = {key}\nAddress = 10.77.0.2/24\n"
            f"[Peer]\nPublicKey = {own}\nEndpoint = {WIRE[BOX]}:51820\nAllowedIPs = {INSIDE}/32\n"
        )
        self.must(BOX, "wg-quick up wg-emp")
        self.must(HOME, "wg-quick up wg-home")


@contextmanager
def joined(root: Path, told: Mapping[str, str]) -> Iterator[Ends]:
    """Both ends, the box's with its firewall and sshd at work; gone afterwards, and the system's files as they were."""
    kept = (root / "etc/wireguard/wg-emp.conf").read_text()
    tun = root / "dev/net/tun"
    tun.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        os.mknod(tun, 0o666 | 0o020000, os.makedev(10, 200))
    try:
        for name in WIRE:
            subprocess.run(["ip", "netns", "add", name], check=True)
        ends = [
            "ip",
            "link",
            "add",
            "wire",
            "netns",
            BOX,
            "type",
            "veth",
            "peer",
            "name",
            "wire",
            "netns",
            HOME,
        ]
        subprocess.run(ends, check=True)
        both = Ends(root, told)
        for name, address in WIRE.items():
            both.must(name, f"ip link set lo up; ip address add {address}/24 dev wire; ip link set wire up")
        both.must(BOX, f"nft -f /etc/nftables.conf; mkdir -p /run/sshd; /usr/sbin/sshd -p 22 -p {OTHER_PORT}")
        began = time.monotonic()
        while not both.hears("127.0.0.1", OTHER_PORT, BOX):  # it goes into the background before it listens
            if time.monotonic() - began > 60.0:
                raise SystemExit("tunnel: sshd does not answer on the box itself")
        yield both
    finally:
        for name in WIRE:
            pids = subprocess.run(
                ["ip", "netns", "pids", name], capture_output=True, text=True
            ).stdout.split()
            subprocess.run(["kill", *pids], stderr=subprocess.DEVNULL)
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
        (root / "etc/wireguard/wg-emp.conf").write_text(kept)
        (root / "etc/wireguard/wg-home.conf").unlink(missing_ok=True)
