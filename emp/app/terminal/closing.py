"""What `emp run` says when it has ended: what each instrument made, what is held, where it is, what to type next."""

import shlex
from collections.abc import Mapping
from typing import Any


def closing_words(summary: Mapping[str, Any]) -> list[str]:
    """Lines from the summary of a run that traded; of one that only watched, where it is."""
    folder = shlex.quote(str(summary["run_folder"]))
    lines = [_result(name, one) for name, one in summary.get("instruments", {}).items() if "pnl_ticks" in one]
    if not lines:
        return [f"recorded in {folder}"]
    held = [
        f"{name} {one['final_position']:+d}"
        for name, one in summary["instruments"].items()
        if one["final_position"]
    ]
    if held:
        lines.append(f"still held, valued at mid: {', '.join(held)}")
    if summary.get("closing_only"):
        lines.append(f"closing only, nothing was opened: {summary['closing_only']}")
    if summary["halted"]:
        lines.append("halted: " + (", ".join(summary["breaches"]) or "as it was asked"))
    lines.append(f"run folder: {folder}")
    one = next(iter(summary["instruments"]))
    name = f" --instrument {one}" if len(summary["instruments"]) > 1 else ""
    lines.append(f"next: emp report {folder}; emp why {folder}{name}; emp runs --runs {_parent(summary)}")
    return lines


def _result(name: str, one: Mapping[str, Any]) -> str:
    money = f" ({one['pnl_money']:+,.2f} {one['currency']})" if one["currency"] else ""
    return f"{name}: {one['pnl_ticks']:+,.1f} ticks{money} after {one['fees']:,.1f} of fees, {one['fills']:,} fills"


def _parent(summary: Mapping[str, Any]) -> str:
    return shlex.quote(str(summary["run_folder"]).rpartition("/")[0] or ".")
