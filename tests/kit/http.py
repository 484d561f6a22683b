"""Asking a run's page over HTTP; nothing is left open, whatever the answer is."""

import urllib.error
import urllib.request


def fetch(url: str, host: str | None = None) -> tuple[int, str]:
    """Status and body of an answer; OSError where there is none."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def fetch_good(port: int, path: str) -> str:
    """Body of an answer of 200 from this machine; OSError where there is none, or another."""
    status, body = fetch(f"http://127.0.0.1:{port}/{path}")
    if status != 200:
        raise OSError(f"{path}: {status}")
    return body
