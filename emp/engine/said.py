"""What is said of connections, in one way for whoever watches them."""

from emp.access.port import LinkState


def said_down(state: LinkState) -> str:
    """What `/health` says of a connection that is down: which, of which kind, the attempt, and the peer's own words."""
    kinds: list[str] = [state.cause] if state.cause else []
    kinds += [f"attempt {state.attempt}"] if state.attempt else []
    shown = f" ({', '.join(kinds)})" if kinds else ""
    return f"{state.channel} link down{shown}: {state.reason}"
