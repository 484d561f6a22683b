"""Evidence that somebody could have chosen: of a market that is played until it suits, or of markets that were picked.

It is of this model and this code, and no gate reads it all the same.
"""

from emp.governance.evidence import Evidence

PLAYED_AGAIN = ("recording", "mock")
"""Connection protocols whose market is no live one."""

CATALOGUE_SHA256 = "2db404bdcd3e06299de8b88d20cf7d119ddba30a96f54581f1687cfd4e6f1af9"
"""Of the shipped `examples/markets.yaml` (`emp/examples` in a wheel). It stands in the sources, which `code_version`
covers: where the file beside them was changed, evidence of it is of another catalogue.
"""


def played_again(one: Evidence) -> bool:
    """Whether a run's market is no live one, or the evidence does not say what it was."""
    return one.config.get("protocol") in (None, *PLAYED_AGAIN)


def of_paper(one: Evidence) -> bool:
    """Whether it says what the paper days of a model say together; no other evidence is of kind `value`."""
    return one.kind == "value" or (one.kind in ("latency", "drift") and one.config.get("of") == "paper")


def picked(one: Evidence) -> str:
    """Of which other markets than all of the shipped catalogue a look outside of training was; "" where of these.

    A market that could not be read may be one that was moved away, and one that was passed over for the sake of another
    model may be why that was named.
    """
    if one.config.get("catalogue_sha256") != CATALOGUE_SHA256:
        return "another catalogue than the shipped one"
    for name, why in (
        ("skipped", "markets that were not all read"),
        ("passed_over", "markets that another model beside it was trained on"),
        ("chosen", "markets that were named"),
    ):
        if one.config.get(name) != []:
            return why
    return ""
