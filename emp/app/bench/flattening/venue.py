"""The venue of a drill in a process of its own, so that neither end waits for the other's interpreter."""

import asyncio
import contextlib
import multiprocessing
import ssl
import subprocess
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from emp.app.bench.flattening.market import Street
from emp.app.bench.flattening.terms import ACCOUNT, Terms, Truth
from emp.core.errors import UsageError

START_S = 60.0


class VenueProcess:
    """What the drill knows of it."""

    def __init__(self, port: int, ends: Connection) -> None:
        self.port = port
        self._ends = ends

    async def truth(self) -> Truth:
        """What the venue knows now."""
        self._ends.send("truth")
        found = await asyncio.to_thread(self._ends.recv)
        assert isinstance(found, Truth)
        return found


@contextlib.contextmanager
def venue_process(terms: Terms, folder: Path) -> Iterator[VenueProcess]:
    """Start a venue, and end it; `folder` holds the certificate where one is needed.

    Raises:
        UsageError: it does not start.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    pem = make_certificate(folder) if terms.over == "ctrader" else None
    process = context.Process(target=_serve, args=(theirs, terms, pem), daemon=True)
    process.start()
    try:
        if not ours.poll(START_S):
            raise UsageError(f"the venue of the drill did not start within {START_S:g} s")
        yield VenueProcess(int(ours.recv()), ours)
    except EOFError:
        raise UsageError("the venue of the drill died") from None
    finally:
        with contextlib.suppress(OSError):
            ours.send("end")
        process.join(10)
        if process.is_alive():
            process.kill()


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate of 127.0.0.1 and its key in one file, made by openssl."""
    key, cert, both = (folder / name for name in ("key.pem", "cert.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2"]
    command += ["-subj", "/CN=drill", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "basicConstraints=critical,CA:TRUE", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"a venue of the Open API needs a certificate, which openssl did not make: {error}"
        ) from None
    both.write_text(key.read_text() + cert.read_text())
    return both


def client_tls(folder: Path) -> ssl.SSLContext:
    """What trusts that certificate."""
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))


def _serve(ends: Connection, terms: Terms, pem: Path | None) -> None:
    asyncio.run(_until_told(ends, terms, pem))


async def _until_told(ends: Connection, terms: Terms, pem: Path | None) -> None:
    market = Street(terms)
    ends.send(await _open(market, terms, pem))
    over = asyncio.Event()

    def asked() -> None:
        try:
            word = ends.recv()
        except (EOFError, OSError):
            word = "end"
        if word == "end":
            over.set()
        else:
            ends.send(market.truth())

    loop = asyncio.get_running_loop()
    loop.add_reader(ends.fileno(), asked)
    await over.wait()
    loop.remove_reader(ends.fileno())
    await market.close()


async def _open(market: Street, terms: Terms, pem: Path | None) -> int:
    """Listen; returns the port."""
    if pem is None:
        from emp.access.fix.dialect import PLAIN
        from emp.sim.venues.fix.venue import FixVenue, VenueSettings

        return await FixVenue(market, market.instruments, VenueSettings(dialect=PLAIN)).start()
    from emp.sim.venues.ctrader.venue import CTraderVenue

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    venue = CTraderVenue(market, account=ACCOUNT)
    await venue.start(tls)
    return venue.port
