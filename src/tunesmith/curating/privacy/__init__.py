"""Find private data in texts by rules, black it out, or put made-up values in its place."""

from tunesmith.curating.privacy.find import PrivacySettings, find_placeholders, find_private, redact
from tunesmith.curating.privacy.finding import KINDS, Finding, Kind
from tunesmith.curating.privacy.pseudonyms import Pseudonyms

__all__ = [
    "KINDS",
    "Finding",
    "Kind",
    "PrivacySettings",
    "Pseudonyms",
    "find_placeholders",
    "find_private",
    "redact",
]
