"""What the commands of governance share: the registry that is meant, a model named for it, a judgement on screen."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emp.app.options import REGISTRY_VARIABLE
from emp.core.errors import ArtifactError, GovernanceError
from emp.core.platform import exists

if TYPE_CHECKING:
    from emp.governance.judge import Judgement
    from emp.governance.registry import Registry
    from emp.model.artifact import Artifact

Home = Annotated[
    Path,
    typer.Option("--registry", help="Folder of models, evidence and decisions.", envvar=REGISTRY_VARIABLE),
]
GatesFile = Annotated[
    Path | None, typer.Option("--gates", help="Gates to hold it against; else the shipped ones.")
]
Reference = Annotated[
    str, typer.Option(help="Artifact that differences are taken to: a folder or a shipped kind.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]

HOME = Path("registry")


def open_registry(home: Path) -> "Registry":
    """The registry of a folder; it need not be there yet."""
    from emp.core.clock import LiveClock
    from emp.governance.registry import Registry

    return Registry(home, LiveClock())


def named_artifact(registry: "Registry", name: str) -> "Artifact":
    """An artifact by its folder, its shipped kind, or its hash or tag in the registry."""
    from emp.engine.choose import artifact_folder
    from emp.model.artifact import MANIFEST, load
    from emp.perception.schema import schema_hash

    try:
        folder = artifact_folder(name)
    except ArtifactError:
        folder = Path(name)
    if not exists(folder / MANIFEST):
        try:
            folder = registry.folder(registry.find(name))
        except GovernanceError as error:
            if not exists(folder):
                raise
            raise GovernanceError(
                f"{name}: is no artifact: models and rules of your own are judged by no gate, and serve on paper"
            ) from error
    return load(folder, schema_hash())


def shown(judgement: "Judgement") -> dict[str, Any]:
    """A judgement as `emp gates check --json` says it."""
    return {
        "model_hash": judgement.model_hash,
        "verdict": judgement.verdict,
        "reference": judgement.reference,
        "gates_sha256": judgement.gates_sha256,
        "code": judgement.code,
        "gates": [
            {
                "name": one.name,
                "limit": one.limit,
                "value": one.value,
                "ci": None if one.ci is None else list(one.ci),
                "verdict": one.verdict,
                "evidence": list(one.evidence),
                "why": one.why,
            }
            for one in judgement.gates
        ],
    }


def markdown_of(judgement: "Judgement") -> str:
    """The table of gates as Markdown: gate, limit, value with its bounds, verdict, evidence by first digits."""
    lines = ["| gate | limit | value (bounds) | verdict | evidence |", "|---|---|---|---|---|"]
    for one in judgement.gates:
        value = one.why if one.value is None else f"{one.value:.4g}"
        if one.value is not None and one.ci is not None and one.ci[0] < one.ci[1]:
            value += f" ({one.ci[0]:.4g} .. {one.ci[1]:.4g})"
        named = ", ".join(f"`{name[:8]}`" for name in one.evidence)
        lines.append(f"| `{one.name}` | {one.limit:g} | {value} | {one.verdict} | {named} |")
    return "\n".join(lines)


def print_judgement(judgement: "Judgement", as_json: bool, **more: Any) -> None:
    """The table of gates, and the JSON line where it is asked for."""
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    table = Table(box=None)
    for column in ("gate", "limit", "value", "bounds", "verdict", "of"):
        table.add_column(column, justify="right" if column in ("limit", "value") else "left")
    for one in judgement.gates:
        value = "" if one.value is None else f"{one.value:.4g}"
        ends = "" if one.ci is None else f"{one.ci[0]:.4g} .. {one.ci[1]:.4g}"
        table.add_row(one.name, f"{one.limit:g}", value, ends, one.verdict, one.why)
    console = make_console(stderr=as_json)
    print_table(console, table)
    passed = sum(one.verdict == "pass" for one in judgement.gates)
    left_out = sum(one.verdict == "left out" for one in judgement.gates)
    of = f"{passed} of {len(judgement.gates) - left_out} gates"
    more_words = f", {left_out} left out: not for live" if left_out else ""
    console.print(f"{judgement.model_hash[:12]}: {judgement.verdict} ({of}{more_words})", highlight=False)
    if as_json:
        print(json.dumps({**shown(judgement), **more}))
