"""The arithmetic of a multi grader: names of graders, numbers, + - * / ** and a few functions; nothing else."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from tunesmith.errors import TunesmithError

_BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_NODES: Final = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Name, ast.Load, ast.USub, ast.UAdd, *_BINARY,
)  # fmt: skip
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil, "exp": math.exp, "sqrt": math.sqrt,
    "log": math.log,
}  # fmt: skip


class FormulaError(TunesmithError):
    """A formula that is none, or that has no value."""


def check(formula: str, names: Collection[str]) -> None:
    """Raise FormulaError unless a formula is arithmetic over these names."""
    for node in ast.walk(_parsed(formula)):
        if isinstance(node, ast.Name) and node.id not in names and node.id not in _FUNCTIONS:
            raise FormulaError(f"the formula has the name '{node.id}'; there are {', '.join(sorted(names))}")


def value_of(formula: str, scores: Mapping[str, float]) -> float:
    """Return the value of a formula; raises FormulaError if there is none."""
    check(formula, scores)
    try:
        value = float(_value(_parsed(formula).body, scores))
    except (ArithmeticError, ValueError, TypeError) as error:
        raise FormulaError(f"the formula has no value: {error}") from error
    if not math.isfinite(value):
        raise FormulaError(f"the formula gives {value}")
    return value


def _parsed(formula: str) -> ast.Expression:
    try:
        parsed = ast.parse(formula.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"the formula cannot be read: {error}") from error
    for node in ast.walk(parsed):
        if not _allowed(node):
            raise FormulaError(
                f"the formula has {ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__!r}; "
                f"there are numbers, names of graders, + - * / ** and {', '.join(_FUNCTIONS)}"
            )
    return parsed


def _allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
    return isinstance(node, _NODES)


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float)
        return float(node.value)
    if isinstance(node, ast.Name):
        return scores[node.id]
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, scores)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        # Floats: an integer's power may have millions of digits.
        found: float = _BINARY[type(node.op)](_value(node.left, scores), _value(node.right, scores))
        return found
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return _FUNCTIONS[node.func.id](*(_value(each, scores) for each in node.args))
