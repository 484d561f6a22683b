"""Units, firewall, logins, updates, the kernel's settings: whether the system is as `deploy/provision` left it."""

import json
import re
from collections.abc import Iterator
from typing import Any

from emp.app.doctor import Finding
from emp.app.production.host import Host, UnseenError

BOX = "/opt/emp/current/deploy/box"
PROVISION = "run deploy/provision again"
RELOAD_RULES = "nft -c -f /etc/nftables.conf && systemctl reload-or-restart nftables"
UNITS = "/etc/systemd/system"
EXPOSURE = {
    "emp.service": 2.0,
    "emp-follow.service": 2.0,
    "emp-copy.service": 2.0,
    "emp-files.service": 2.0,
    "emp-clock.service": 4.0,
}
"""The most that `systemd-analyze security` may say of each; the clock's opens no file of ours."""

RUNNING = (
    "emp.service",
    "emp-follow.service",
    "emp-copy.timer",
    "emp-clock.timer",
    "emp-files.timer",
    "nftables.service",
    "fail2ban.service",
)
SSH = {
    "passwordauthentication": ("no",),
    "kbdinteractiveauthentication": ("no",),
    "permitemptypasswords": ("no",),
    "permitrootlogin": ("no", "without-password", "prohibit-password", "forced-commands-only"),
    "x11forwarding": ("no",),
}
LET_IN = frozenset({"tcp 22", "udp 51820", "udp 546"})
"""SSH, WireGuard, and what gives the machine its own address."""

TUNNEL = "wg-emp"
"""The interface of the WireGuard tunnel: who comes through it has shown a key that the owner has let in."""

HEARD = LET_IN | {"udp 68"}

HARMLESS = {
    "iif": frozenset({"lo"}),
    "iifname": frozenset({"lo"}),
    "state": frozenset({"established", "related"}),
    "l4proto": frozenset({"icmp", "ipv6-icmp", "1", "58"}),
}
"""What a rule may accept without naming a port."""

UPDATE_AGE_DAYS = 3.0
DAY_S = 86_400.0


def units(host: Host) -> Iterator[Finding]:
    """Each unit as the release has it, enabled, at work, and little exposed; nothing failed."""
    for name in [*EXPOSURE, "emp-copy.timer", "emp-clock.timer", "emp-files.timer"]:
        laid, meant = host.text(f"{UNITS}/{name}"), host.text(f"{BOX}/{name}")
        if laid != meant:
            yield Finding("bad", name, "is not that of the release that is served", PROVISION)
    for name, most in EXPOSURE.items():
        said = host.told("systemd-analyze", "security", "--no-pager", name)
        level = re.search(r"exposure level for \S+: ([\d.]+)", said)
        if level is None:
            raise UnseenError(f"systemd-analyze security does not judge {name}")
        good = float(level[1]) <= most
        fix = "" if good else f"look for what loosens it: systemctl cat {name}"
        yield Finding("ok" if good else "bad", name, f"exposure {level[1]} of at most {most:g}", fix)
    for name in RUNNING:
        state = host.ask("systemctl", "is-active", name).out.strip()
        starts = host.ask("systemctl", "is-enabled", name).out.strip()
        good = state == "active" and starts == "enabled"
        fix = "" if good else f"systemctl enable --now {name}"
        yield Finding("ok" if good else "bad", name, f"{state or 'unknown'}, {starts or 'unknown'}", fix)
    failed = host.told("systemctl", "--failed", "--plain", "--no-legend").split("\n")
    names = [line.split()[0] for line in failed if line.strip()]
    fix = f"journalctl -u {names[0]} -e" if names else ""
    yield Finding("bad" if names else "ok", "failed units", ", ".join(names) or "none", fix)


def firewall(host: Host) -> Iterator[Finding]:
    """What the kernel's own tables let in, and what listens behind them."""
    rules = json.loads(host.told("nft", "-j", "list", "ruleset"))["nftables"]
    shut = {}
    for hook in ("input", "forward"):
        chains = [one["chain"] for one in rules if one.get("chain", {}).get("hook") == hook]
        shut[hook] = any(chain.get("policy") == "drop" and chain.get("family") == "inet" for chain in chains)
        fix = "" if shut[hook] else RELOAD_RULES + ", or " + PROVISION
        found = "dropped by default" if shut[hook] else "let in by default"
        yield Finding("ok" if shut[hook] else "bad", hook, found, fix)
    opened = sorted(set(_opened(rules)) - LET_IN) if shut["input"] else ["all"]
    said = ", ".join(opened) or "SSH alone (and WireGuard's port, where it is used)"
    fix = f"take them out of /etc/nftables.conf, then {RELOAD_RULES}" if opened else ""
    yield Finding("bad" if opened else "ok", "ports that are let in", said, fix)
    heard = sorted(set(_listening(host)) - HEARD)
    fix = "bind it to 127.0.0.1, or remove it: ss -lntup says what it is" if heard else ""
    yield Finding(
        "warn" if heard else "ok", "listening beyond loopback", ", ".join(heard) or "SSH alone", fix
    )


def _opened(rules: list[dict[str, Any]]) -> Iterator[str]:
    """What the rules of the input chains accept from a stranger, in words."""
    inputs = {
        (one["chain"]["table"], one["chain"]["name"])
        for one in rules
        if one.get("chain", {}).get("hook") == "input"
    }
    for rule in (one["rule"] for one in rules if "rule" in one):
        if (rule["table"], rule["chain"]) not in inputs:
            continue
        words = {word: value for part in rule["expr"] for word, value in part.items()}
        if "jump" in words or "goto" in words:
            yield f"rule {rule['handle']}, which goes on elsewhere"
        elif "accept" in words:
            yield from _accepted(rule, [part["match"] for part in rule["expr"] if "match" in part])


def _through_tunnel(match: dict[str, Any]) -> bool:
    named = match["left"].get("meta", {}).get("key") in ("iif", "iifname")
    return named and match["op"] == "==" and match["right"] == TUNNEL


def _accepted(rule: dict[str, Any], matches: list[dict[str, Any]]) -> Iterator[str]:
    if any(_through_tunnel(match) for match in matches):
        return
    for match in matches:
        if match["op"] not in ("==", "in"):
            continue
        left, right = match["left"], match["right"]
        values = right["set"] if isinstance(right, dict) and "set" in right else right
        values = values if isinstance(values, list) else [values]
        payload = left.get("payload", {})
        if payload.get("field") == "dport":
            yield from (f"{payload['protocol']} {one}" for one in values)
            return
        key = left.get("meta", {}).get("key") or left.get("ct", {}).get("key") or payload.get("protocol")
        if key in HARMLESS and set(map(str, values)) <= HARMLESS[key]:
            return
        if key in ("icmp", "icmpv6"):
            return
    yield f"rule {rule['handle']}, whatever the port"


def _listening(host: Host) -> Iterator[str]:
    """Protocol and port of every socket that takes what comes to an address other than loopback."""
    for name, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in host.text(f"/proc/net/{name}").splitlines()[1:]:
            words = line.split()
            address, _, port = words[1].partition(":")
            loopback = address.endswith("7F") if len(address) == 8 else address in _LOOPBACK_6
            if words[3] == state and not loopback:
                yield f"{name[:3]} {int(port, 16)}"


_LOOPBACK_6 = ("0" * 24 + "01000000", "0" * 16 + "FFFF0000" + "0100007F")


def logins(host: Host) -> Iterator[Finding]:
    """What sshd makes of all its files together, and whether anybody can log in."""
    said = dict(line.partition(" ")[::2] for line in host.told("/usr/sbin/sshd", "-T").lower().splitlines())
    for name, allowed in SSH.items():
        value = said.get(name, "unknown")
        good = value in allowed
        fix = "" if good else f"another file of /etc/ssh/sshd_config.d comes before ours; {PROVISION}"
        yield Finding("ok" if good else "bad", name, value, fix)


def updates(host: Host) -> Iterator[Finding]:
    """Whether security updates come by themselves and have come lately."""
    said = host.told("apt-config", "dump")
    good = 'APT::Periodic::Unattended-Upgrade "1";' in said
    yield Finding(
        "ok" if good else "bad",
        "unattended upgrades",
        "on" if good else "off",
        "" if good else PROVISION,
    )
    stamp = "/var/lib/apt/periodic/unattended-upgrades-stamp"
    if host.is_there(stamp):
        age = (host.now_ns / 1e9 - host.facts(stamp).st_mtime) / DAY_S
        late = age > UPDATE_AGE_DAYS
        fix = "systemctl list-timers apt-daily-upgrade.timer" if late else ""
        yield Finding("bad" if late else "ok", "last upgrade", f"{age:.1f} days ago", fix)
    else:
        yield Finding("bad", "last upgrade", "never", "unattended-upgrade --dry-run says what is in its way")
    waits = host.is_there("/run/reboot-required")
    fix = "emp halt RUN, then reboot when nothing is held" if waits else ""
    yield Finding(
        "warn" if waits else "ok", "restart", "an upgrade waits for one" if waits else "none waits", fix
    )


def kernel(host: Host) -> Iterator[Finding]:
    """Every setting of the release's sysctl.conf, as the kernel has it now."""
    other = []
    meant = host.text(f"{BOX}/sysctl.conf")
    wanted = [line.partition("=") for line in meant.splitlines() if "=" in line and line[0] not in "#-"]
    for name, _, value in wanted:
        now = host.text(f"/proc/sys/{name.strip().replace('.', '/')}").strip()
        if now.split() != value.split():
            other.append(f"{name.strip()} is {now}")
    found = "; ".join(other) if other else f"{len(wanted)} as they should be"
    yield Finding("bad" if other else "ok", "settings", found, "sysctl --system" if other else "")
