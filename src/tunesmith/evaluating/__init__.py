"""Evaluating: the same questions for every contender, floors beside them, and a verdict that may say no."""

from tunesmith.evaluating.evaluate import EvaluateSettings, evaluate
from tunesmith.evaluating.report import ReportData, render_html, to_json
from tunesmith.evaluating.scores import Summary, score, summarise
from tunesmith.evaluating.statistics import Estimate, Paired, paired_difference, wilson
from tunesmith.evaluating.tables import SummaryTable
from tunesmith.evaluating.verdict import Decision, compare, decide

__all__ = [
    "Decision",
    "Estimate",
    "EvaluateSettings",
    "Paired",
    "ReportData",
    "Summary",
    "SummaryTable",
    "compare",
    "decide",
    "evaluate",
    "paired_difference",
    "render_html",
    "score",
    "summarise",
    "to_json",
    "wilson",
]
