"""Signed records: canonical JSON, named by the hash of its content, signed by a key that may sign its kind.

    keys/trusted.json     public keys and their roles: what a server has
    keys/ROLE.key         private keys: only where that role works, readable by their owner alone

A training key signs what is computed from recordings, and what is decided from it. A box key signs only what the
trading machine alone can see. The signature (Ed25519, RFC 8032) covers the kind, so that no record passes as another.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from emp.core.disk import disk, make_folders, write_new
from emp.core.errors import GovernanceError
from emp.core.small_file import read_small
from emp.journal.files import write_atomically

Role = Literal["training", "box"]

LEDGER = {"looks", "stretch"}
"""What both sign: lines of their ledger of evidence, and stretches of it."""

KINDS: dict[Role, frozenset[str]] = {
    "training": frozenset(
        {"evaluation", "masking", "parity", "facts", "chaos", "league", "verdict", "audit"} | LEDGER
    ),
    "box": frozenset(
        {"latency", "drift", "value", "begun", "reached", "paper", "told", "contest", "withdrawal"} | LEDGER
    ),
}
"""What a key of each role may sign."""


class Trusted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key and what it is for."""

    role: Role
    public: str  # 64 hex digits


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed record as it is stored."""

    body: dict[str, Any]
    key: str  # id of the key: the first 16 hex digits of the hash of its public half
    kind: str
    signature: str


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted names, no blanks, no number that is not finite.

    Raises:
        GovernanceError: a number is not finite, or something is none of what JSON has.
    """
    try:
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise GovernanceError(f"cannot be sealed: {error}") from error


def content_address(body: Any) -> str:
    """SHA-256 of the canonical text, 64 hex digits: the record's name."""
    return hashlib.sha256(canonical(body)).hexdigest()


class Keys:
    """The keys of a registry: which are trusted for what, and which are at hand to sign with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def trusted(self) -> dict[str, Trusted]:
        """Public keys by id; none where there is no file."""
        path = self._folder / "trusted.json"
        try:
            found = msgspec.json.decode(read_small(path), type=dict[str, Trusted])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GovernanceError(f"{path}: not a readable list of keys: {error}") from error
        for name, one in found.items():
            try:
                mine = _key_id(_hex(one.public))
            except ValueError as error:
                raise GovernanceError(f"{path}: {name}: not the public half of a key: {error}") from error
            if name != mine:
                raise GovernanceError(f"{path}: {name} is not the name of the key beside it")
        return found

    def seal(self, kind: str, body: Any) -> Envelope:
        """Sign a record with the key of the role that may sign its kind; the first key of a role is made here."""
        role: Role = "training" if kind in KINDS["training"] - LEDGER else "box"
        return self.seal_as(role, kind, body)

    def seal_as(self, role: Role, kind: str, body: Any) -> Envelope:
        """Sign with the key of one role; raise GovernanceError where that role may not sign this kind, or where what is
        signed could not be read again: one such line would end a log.
        """
        if kind not in KINDS[role]:
            raise GovernanceError(f"a {role} key may not sign {kind}")
        private = self._private(role)
        text = _signed_text(kind, body)
        plain = msgspec.to_builtins(body)
        envelope = Envelope(
            plain, _key_id(private.public_key().public_bytes_raw()), kind, private.sign(text).hex()
        )
        open_envelope(canonical(envelope) + b"\n", "cannot be sealed")
        return envelope

    def verify(self, envelope: Envelope) -> None:
        """Raise GovernanceError where a record is not signed by a trusted key that may sign its kind."""
        self.verifier(self.trusted())(envelope)

    def verifier(self, trusted: Mapping[str, Trusted]) -> Callable[[Envelope], None]:
        """The same of many records, by the same trusted keys."""
        known = dict[str, Ed25519PublicKey]()

        def verify(envelope: Envelope) -> None:
            one = trusted.get(envelope.key)
            if one is None:
                raise GovernanceError(f"signed by key {envelope.key[:16]!r}, which is not trusted here")
            if envelope.kind not in KINDS[one.role]:
                raise GovernanceError(f"a {one.role} key may not sign {envelope.kind[:20]!r}")
            try:
                signature = _hex(envelope.signature)
                if envelope.key not in known:
                    known[envelope.key] = Ed25519PublicKey.from_public_bytes(_hex(one.public))
                known[envelope.key].verify(signature, _signed_text(envelope.kind, envelope.body))
            except (InvalidSignature, ValueError) as error:
                raise GovernanceError(
                    f"the signature of this {envelope.kind} is wrong: it was changed"
                ) from error

        return verify

    def held(self) -> set[str]:
        """Ids of the keys that this machine can sign with."""
        keys = [self._at_hand(role) for role in KINDS]
        return {_key_id(one.public_key().public_bytes_raw()) for one in keys if one is not None}

    def own(self, role: Role) -> tuple[str, str]:
        """Id and public half of this machine's key of a role, which is made where there is none yet.

        Raises:
            GovernanceError: another machine's key is the trusted one.
        """
        public = self._private(role).public_key().public_bytes_raw()
        return _key_id(public), public.hex()

    def may(self, role: Role) -> bool:
        """Whether this machine can sign in a role: by its key, or by the first of all, that is yet to be made."""
        return self._at_hand(role) is not None or all(one.role != role for one in self.trusted().values())

    def trust(self, role: Role, public: str) -> str:
        """Trust another machine's key for one role, by its public half; its id.

        Raises:
            GovernanceError: it is no key, is trusted for another role, or this machine has a key of that role itself.
        """
        try:
            raw = _hex(public)
            Ed25519PublicKey.from_public_bytes(raw)
        except ValueError as error:
            raise GovernanceError(
                f"{public[:70]!r} is not the public half of a key: 64 hex digits"
            ) from error
        name, trusted = _key_id(raw), self.trusted()
        known = trusted.get(name)
        if known is not None and known.role != role:
            raise GovernanceError(f"key {name} is trusted as {known.role}: one key has one role")
        if known is None:
            if self._at_hand(role) is not None:
                raise GovernanceError(
                    f"{self._folder / role}.key: this machine has a {role} key of its own: remove it first,"
                    " or another machine's would share its rights"
                )
            self._write_trusted(trusted | {name: Trusted(role, public)})
        return name

    def _write_trusted(self, trusted: dict[str, Trusted]) -> None:
        make_folders(self._folder, 0o700)
        write_atomically(self._folder / "trusted.json", canonical(trusted) + b"\n")

    def _at_hand(self, role: Role) -> Ed25519PrivateKey | None:
        path = self._folder / f"{role}.key"
        try:
            return Ed25519PrivateKey.from_private_bytes(_hex(read_small(path).decode("ascii").strip()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise GovernanceError(f"{path}: not a readable private key") from error

    def _refuse_open(self, role: Role) -> None:
        path = self._folder / f"{role}.key"
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise GovernanceError(f"{path} can be read by others, who could sign with it: chmod 600 it")

    def _private(self, role: Role) -> Ed25519PrivateKey:
        found, trusted = self._at_hand(role), self.trusted()
        if found is not None:
            self._refuse_open(role)
        if found is not None and _key_id(found.public_key().public_bytes_raw()) in trusted:
            return found
        if any(one.role == role for one in trusted.values()):
            path = self._folder / f"{role}.key"
            raise GovernanceError(f"{path}: no {role} key here, and another machine's is the trusted one")
        private = (
            found or Ed25519PrivateKey.generate()
        )  # one is found where its maker died before it was trusted
        public = private.public_key().public_bytes_raw()
        make_folders(self._folder, 0o700)
        if found is None:
            write_atomically(self._folder / f"{role}.key", private.private_bytes_raw().hex().encode() + b"\n")
        self._write_trusted(trusted | {_key_id(public): Trusted(role, public.hex())})
        return private


def write_sealed(folder: Path, envelope: Envelope) -> str:
    """Store a signed record under its name, durably; return the name."""
    name = content_address(envelope.body)
    path, beside = folder / f"{name}.json", folder / f".{name}.tmp"
    try:
        make_folders(folder)
        write_new(beside, canonical(envelope) + b"\n")
        disk().replace(beside, path)
        disk().sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise GovernanceError(f"{path}: cannot write: {error.strerror}") from error
    return name


def read_sealed(folder: Path, name: str, keys: Keys, kind: str = "") -> dict[str, Any]:
    """The content of a stored record, as `read_envelope` verifies it."""
    return read_envelope(folder, name, keys, kind).body


def read_envelope(folder: Path, name: str, keys: Keys, kind: str = "") -> Envelope:
    """A stored record, verified: its bytes are canonical, its name is their hash, the signature holds.

    Raises:
        GovernanceError: it is missing, was changed in any byte, is of another kind, or a wrong key signed it.
    """
    return open_named(read_stored(folder, name), folder, name, keys, kind)


def read_stored(folder: Path, name: str) -> bytes:
    """The bytes of a stored record, as they lie there; GovernanceError where it is missing."""
    path = folder / f"{name}.json"
    try:
        return path.read_bytes()
    except OSError as error:
        raise GovernanceError(f"{path}: cannot read: {error.strerror}") from error


def open_named(text: bytes, folder: Path, name: str, keys: Keys, kind: str = "") -> Envelope:
    """A record from its stored bytes, verified as `read_envelope` has it."""
    path = folder / f"{name}.json"
    envelope = open_envelope(text, str(path))
    if content_address(envelope.body) != name:
        raise GovernanceError(f"{path}: its content is not what its name says: it was changed")
    if kind and envelope.kind != kind:
        raise GovernanceError(f"{path}: {envelope.kind[:20]!r} is not {kind}")
    try:
        keys.verify(envelope)
    except GovernanceError as error:
        raise GovernanceError(f"{path}: {error}") from error
    return envelope


def open_envelope(text: bytes, where: str) -> Envelope:
    """Decode a stored record whose bytes must be the canonical ones."""
    try:
        envelope = msgspec.json.decode(text, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GovernanceError(f"{where}: not a signed record: {error}") from error
    if canonical(envelope) + b"\n" != text:
        raise GovernanceError(f"{where}: not in its canonical form: it was changed")
    return envelope


def _signed_text(kind: str, body: Any) -> bytes:
    return b"emp " + kind.encode() + b"\0" + canonical(body)


def _key_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def _hex(text: str) -> bytes:
    """Bytes of lower-case hex digits, and of nothing else: one text for one value."""
    found = bytes.fromhex(text)
    if found.hex() != text:
        raise ValueError("not lower-case hex")
    return found
