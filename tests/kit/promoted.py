"""A registry in which a shipped model was promoted, without the evidence that a promotion asks for."""

from emp.core.code_version import code_version
from emp.engine.choose import load_model
from emp.governance.gates import read_gates
from emp.governance.judge import Judgement
from emp.governance.registry import Registry
from emp.governance.seal import content_address, write_sealed


def promote(registry: Registry, name: str, **more: str) -> str:
    """Enter a promotion of a shipped model by the shipped gates; what it rests on can be another. Its hash."""
    artifact = load_model(name).artifact
    registry.register(artifact)
    passed = Judgement(
        model_hash=artifact.hash,
        verdict="pass",
        gates_sha256=more.get("gates_sha256", content_address(read_gates())),
        reference=load_model("linear").artifact.hash,
        code=code_version(),
        gates=(),
        likeness="shipped",
    )
    verdict = write_sealed(registry.verdicts, registry.store.keys.seal("verdict", passed))
    registry._say("promote", artifact.hash, previous=registry.standing().default, verdict=verdict)
    return artifact.hash
