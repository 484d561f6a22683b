"""Functions of the user's that compiled code calls by address: how they answer, and how they fail."""

from enum import IntEnum

import numpy as np

ANSWERED = 1
"""What an entry point returns; anything else is a failure."""


class Fault(IntEnum):
    """How a model or features of the user's own have failed."""

    MODEL_RAISED = 1
    FEATURES_RAISED = 2
    INPUT = 3  # an own input is not finite
    NUMBER = 4  # a part of the forecast is not finite
    PROBABILITIES = 5  # below 0, or their sum is not 1
    CROSSING = 6  # quartiles fall
    PARTLY = 7  # some of the three quartiles or classes of a horizon are said, not all


FAILURE = np.dtype([("kind", "i8"), ("seq", "i8"), ("place", "i8")])
"""The first failure: a Fault, the event (0: not known), and which own input or horizon; after it nothing is asked."""
