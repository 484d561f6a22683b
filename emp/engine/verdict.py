"""What the monitor says of the model that serves, to be acted on between two events."""

from typing import NamedTuple

MODEL_FAILED = "model_failed"
"""Reason of the breach that tells of it."""


OWN_CODE = "own_code"
"""The gate of a model of the user's own that raised, or said what is no forecast."""


class Verdict(NamedTuple):
    """The model has failed."""

    model: str  # hash
    gate: str  # "drift", "own_code", or the comparison: "log_loss.standby"
    instrument: str
    log_evidence: float  # natural logarithm
    why: str  # in words
