"""Risks in the report and as JSON: every figure with its limits, and back again without loss."""

from __future__ import annotations

import json

from tunesmith.evaluating.risks import Risk, RiskRow, Risks, Unmeasured, risks_section
from tunesmith.evaluating.risks.page import from_json, to_json, worse
from tunesmith.evaluating.risks.record import Change
from tunesmith.evaluating.statistics import Estimate

FOUND = Risks(
    "smollm2",
    "smollm2 tuned",
    (
        Risk(
            "forgetting",
            "arithmetic",
            "sums",
            "share",
            "lower",
            Estimate(0.5, 0.4, 0.6, 40),
            Estimate(0.25, 0.2, 0.3, 40),
            Change(-0.25, -0.4, -0.1),
            40,
            "Long sums.",
            rows=(RiskRow("What is <1> + 1?", 1.0, 0.0, "2", "11"),),
        ),
        Risk(
            "memorisation",
            "membership",
            "area",
            "AUC",
            "higher",
            None,
            Estimate(0.52, 0.4, 0.6, 9),
            None,
            9,
            "x",
        ),
    ),
    (Unmeasured("memorisation", "exposure", "No secret was planted."),),
    ("Only 9 held-out rows.",),
)


def test_the_section_shows_figures_limits_and_what_became_worse() -> None:
    """Both figures, the marked change, the escaped question behind it, the limits, what is missing and the note."""
    html = risks_section(FOUND)

    assert "50.0 %" in html
    assert "−25.0<small>−40.0 to −10.0</small>" in html
    assert 'class="below"' in html
    assert "Worse: arithmetic" in html
    assert "What is &lt;1&gt; + 1?" in html
    assert "Long sums." in html
    assert "not measured. No secret was planted." in html
    assert "Only 9 held-out rows." in html
    assert html.count("not measured") == 3  # a missing side, a missing change, a missing figure


def test_nothing_looked_at_is_no_section() -> None:
    """Without checks there is no heading over nothing."""
    assert risks_section(Risks("a", "b", ())) == ""


def test_json_goes_there_and_back() -> None:
    """What was written is read again, and says what is clearly worse."""
    document = json.loads(json.dumps(to_json(FOUND)))

    assert document["checks"]["forgetting"]["arithmetic"]["clear"] is True
    assert document["checks"]["memorisation"]["membership"]["clear"] is False
    assert from_json(document) == FOUND
    assert [one.name for one in worse(FOUND)] == ["arithmetic"]
