"""Rails around a model: what may be asked, shown, said and called, by a policy that holds its own tests."""

from tunesmith.guarding.guard import Guard, Watch, guarded, sifted
from tunesmith.guarding.policy import Policy, load_policy
from tunesmith.guarding.rails import Check, Context, Finding, Outcome, Rail

__all__ = [
    "Check",
    "Context",
    "Finding",
    "Guard",
    "Outcome",
    "Policy",
    "Rail",
    "Watch",
    "guarded",
    "load_policy",
    "sifted",
]
