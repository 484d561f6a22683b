"""Expected beside realised, by the order that opened a lot: in the tables of an evaluation and on a run's page."""

from emp.app.report.evaluation_text import interval_lines, kind_lines
from emp.app.report.page import expected_and_realised

BY_KIND = {
    "reason": {
        "post_edge": {
            "opened_lots": 1_200,
            "closed_lots": 3.0,
            "expected": 1.5,
            "realised": -0.25,
            "missed_interval": [-2.0, -1.5],
        }
    },
    "queue": {"10-99": {"opened_lots": 1, "closed_lots": 0.0, "expected": None, "realised": None}},
    "hour": {},
}


def test_an_evaluation_prints_kinds_that_were_traded() -> None:
    lines = kind_lines([{"series": "GOOG", "model": "linear", "by_kind": BY_KIND}])
    assert lines[2] == "| GOOG | linear | reason post_edge | 1,200 | 3 | +1.50 | -0.25 | [-2.00, -1.50] |"
    assert lines[3] == "| GOOG | linear | queue 10-99 | 1 | 0 | - | - | - |"
    assert len(lines) == 5
    assert kind_lines([{"series": "GOOG", "model": "linear", "by_kind": {"reason": {}}}]) == []


def test_a_page_shows_them_and_nothing_where_nothing_was_opened() -> None:
    html = expected_and_realised(BY_KIND)
    shown = ("reason post_edge", "1,200", "+1.50", "-0.25", "-2.00 to -1.50", "queue 10-99")
    assert all(text in html for text in shown)
    assert expected_and_realised({}) == expected_and_realised({"reason": {}}) == ""


def test_coverage_is_printed_by_horizon_with_days_and_half_hours() -> None:
    one = {"series": "GOOG", "model": "linear", "n": 5, "width": 1.0}
    days = [{"day": 1, "n": 20_000, "coverage": 0.89}, {"day": 2, "n": 20_000, "coverage": 0.91}]
    lines = interval_lines(
        [
            {**one, "horizon": "1ev", "coverage": 0.9, "days": days, "half_hours": [0.87, 0.93]},
            {**one, "horizon": "2s", "coverage": None, "days": [], "half_hours": None},
        ]
    )
    assert lines[-2] == "| GOOG | linear | 0.900 [0.890, 0.910] 0.87-0.93 | - |"
    assert interval_lines([]) == []
