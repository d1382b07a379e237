"""What the tuning risks, before and after: forgetting, memorisation, private data, bias, refusals, injections."""

from tunesmith.evaluating.risks.look import judge, look
from tunesmith.evaluating.risks.page import risks_section
from tunesmith.evaluating.risks.record import (
    Material,
    Risk,
    RiskRow,
    Risks,
    RisksSettings,
    Seen,
    Subject,
    Unmeasured,
)

__all__ = [
    "Material",
    "Risk",
    "RiskRow",
    "Risks",
    "RisksSettings",
    "Seen",
    "Subject",
    "Unmeasured",
    "judge",
    "look",
    "risks_section",
]
