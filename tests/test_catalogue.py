"""The catalogue: finding an answer's code, its calls, and what they are worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.catalogue import (
    Call,
    Catalogue,
    DocExample,
    Entry,
    Parameter,
    ParameterKind,
    bind,
    calls_in,
    find_code,
    judge,
    merge,
)
from tunesmith.errors import DatasetError

SHORTEST = Entry(
    id="networkx.shortest_path",
    kind="function",
    parameters=(Parameter("G"), Parameter("source", default="None"), Parameter("target", default="None")),
    summary="Compute shortest paths in the graph.",
    examples=(DocExample("nx.shortest_path(G)", "[0, 1]"),),
    aliases=("networkx.algorithms.shortest_paths.generic.shortest_path",),
)
LOUVAIN = Entry(
    id="networkx.community.louvain_communities",
    kind="function",
    parameters=(Parameter("G"), Parameter("seed", "keyword_only", default="None")),
    aliases=("networkx.algorithms.community.louvain_communities",),
)
PATH_GRAPH = Entry(id="networkx.path_graph", kind="function", parameters=(Parameter("n"),))
GRAPH = Entry(
    id="networkx.Graph",
    kind="class",
    parameters=(Parameter("data", default="None"), Parameter("attr", "var_keyword")),
    members=("add_edge", "copy", "nodes", "pop"),
)
ADD_EDGE = Entry(
    id="networkx.Graph.add_edge",
    kind="method",
    parameters=(Parameter("u"), Parameter("v"), Parameter("attr", "var_keyword")),
    aliases=("networkx.DiGraph.add_edge",),
)
COPY = Entry(id="networkx.Graph.copy", kind="method", parameters=(Parameter("as_view", default="False"),))
POP = Entry(id="networkx.Graph.pop", kind="method")
OLD = Entry(id="networkx.old", kind="function", parameters=(Parameter("x"),))
CATALOGUE = Catalogue(
    package="networkx",
    version="3.6.1",
    entries=(SHORTEST, LOUVAIN, PATH_GRAPH, GRAPH, ADD_EDGE, COPY, POP),
    conventional_alias="nx",
    unlisted=(OLD,),
    attributes=("networkx.config",),
)
ACCEPTABLE = ("networkx.shortest_path",)


def fenced(code: str) -> str:
    """Return an answer as the product's own look: a sentence and a block."""
    return f"`networkx.shortest_path` does it.\n\n```python\n{code}\n```"


def paths(code: str) -> list[str]:
    """Return the dotted paths of the calls in a block."""
    return [call.path for call in calls_in(code, CATALOGUE)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("So:\n```python\nnx.f(1)\n```\nDone.", "nx.f(1)"),
        ("```\nnx.f(1)\n```", "nx.f(1)"),
        ("```py\nnx.f(1)\n```\n```python\nnx.g(2)\n```", "nx.f(1)"),
        ("```bash\npip install networkx\n```\n```python\nnx.f(1)\n```", "nx.f(1)"),
        ("```python\nnx.f(1)\nnx.g(", "nx.f(1)"),
        ("```python\nG = 1\nnx.f(\n    G,\n    sou", "G = 1"),
        ("- so:\n\n  ```python\n  nx.f(1)\n  nx.g(2)\n  ```", "nx.f(1)\nnx.g(2)"),
        (
            "```\n>>> for n in G:\n...     nx.f(n)\n[0, 1]\n>>> nx.g(2)\n```",
            "for n in G:\n    nx.f(n)\nnx.g(2)",
        ),
        ("```python nx.f(1)```", "nx.f(1)"),
        ("```nx.f(1)```", "nx.f(1)"),
        ("nx.f(1)", "nx.f(1)"),
        (">>> nx.f(1)\n3", "nx.f(1)"),
        ("Use nx.f(1) for it.", None),
        ("yes", None),
        ("", None),
        ("```python\n```", None),
        ("```python\nthis is no Python\nnor this\nnor this\nnor this\nnor this\n```", None),
        ("```json\n{}\n```", None),
        ("```python\nnx.f(\0)\n```", None),
    ],
)
def test_code_is_found_in_every_shape_of_answer(answer: str, code: str | None) -> None:
    """The first Python block is found, without prompts and cut lines; prose alone is no code."""
    assert find_code(answer) == code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import networkx as nx\nnx.shortest_path(G)", ["networkx.shortest_path"]),
        ("import networkx\nnetworkx.shortest_path(G)", ["networkx.shortest_path"]),
        ("import networkx as n\nn.shortest_path(G)", ["networkx.shortest_path"]),
        ("from networkx import shortest_path as sp\nsp(G)", ["networkx.shortest_path"]),
        (
            "from networkx.algorithms import community\ncommunity.louvain_communities(G)",
            ["networkx.community.louvain_communities"],
        ),
        (
            "import networkx.algorithms.community as c\nc.louvain_communities(G)",
            ["networkx.community.louvain_communities"],
        ),
        ("from networkx import *\nshortest_path(G)\nprint(1)", ["networkx.shortest_path"]),
        ("from networkx import *\nfind_way(G)", ["networkx.find_way"]),
        ("from networkx import *\nfrom numpy import *\nfind_way(G)", []),
        ("nx.shortest_path(G)", ["networkx.shortest_path"]),
        ("f = nx.shortest_path\nf(G)", ["networkx.shortest_path"]),
        ("shortest_path(G)", []),
        ("import numpy as np\nnp.array(nx.path_graph(3))", ["networkx.path_graph"]),
        ("import numpy as nx\nnx.shortest_path(G)", []),
        ("from .networkx import shortest_path\nshortest_path(G)", []),
        ("nx.shortest_path(nx.path_graph(4), 0)", ["networkx.shortest_path", "networkx.path_graph"]),
        ("G = nx.Graph()\nG.add_edge(1, 2)", ["networkx.Graph", "networkx.Graph.add_edge"]),
        ("nx.Graph().add_edge(1, 2)", ["networkx.Graph.add_edge", "networkx.Graph"]),
        ("with nx.Graph() as G:\n    G.fly(1)", ["networkx.Graph", "networkx.Graph.fly"]),
        ("G = nx.Graph()\nG.nodes()", ["networkx.Graph"]),
        ("G.add_edge(1, 2)", ["networkx.Graph.add_edge"]),
        ("G.add_edge(1)", ["networkx.Graph.add_edge"]),
        ("path.pop(0)", []),
        ("path = [1]\npath.copy()", []),
        ("', '.join(names)", []),
        ("import pandas as pd\ndf = pd.DataFrame()\ndf.copy()\ndf[0].copy()", []),
        ("def f(G):\n    return nx.shortest_path(G)\nf(1)", ["networkx.shortest_path"]),
        (
            "[nx.path_graph(n) for n in nx.shortest_path(G)]",
            ["networkx.shortest_path", "networkx.path_graph"],
        ),
        ("nx.config.backend.get(1)", []),
        ("nx.old(1)", ["networkx.old"]),
        ("nx.Graph.copy(G)", ["networkx.Graph.copy"]),
        ("print(len([1]))", []),
        ("not python at all", []),
    ],
)
def test_names_are_resolved_as_python_would(code: str, expected: list[str]) -> None:
    """Imports, constructors and conventions decide what a call is; others' calls do not count."""
    assert paths(code) == expected


def test_a_call_keeps_its_arguments_and_place() -> None:
    """A call holds its arguments as source text, whether any are unpacked, and where it stands."""
    assert calls_in("x = 1\nnx.shortest_path(G, *rest, target=[2])", CATALOGUE) == (
        Call(
            path="networkx.shortest_path",
            positional=("G",),
            keywords=(("target", "[2]"),),
            starred=True,
            text="nx.shortest_path(G, *rest, target=[2])",
            candidates=("networkx.shortest_path",),
            statement=2,
        ),
    )


@pytest.mark.parametrize(
    ("code", "verdict", "called"),
    [
        (
            "import networkx as nx\n\nnx.shortest_path(G, source=0, target=4)",
            "exact",
            "networkx.shortest_path",
        ),
        ("G = nx.path_graph(5)\nprint(nx.shortest_path(G, 0, 4))", "exact", "networkx.shortest_path"),
        ("p = nx.shortest_path(G)\nfor node in p:\n    print(node)", "exact", "networkx.shortest_path"),
        ("for p in nx.shortest_path(G):\n    nx.path_graph(p)", "exact", "networkx.shortest_path"),
        ("try:\n    nx.shortest_path(G)\nexcept ValueError:\n    nx.path_graph(1)", "exact", SHORTEST.id),
        (
            "if __name__ == '__main__':\n    G = nx.path_graph(3)\n    nx.shortest_path(G)",
            "exact",
            SHORTEST.id,
        ),
        ("import networkx.algorithms.shortest_paths.generic as g\ng.shortest_path(G)", "exact", SHORTEST.id),
        ("p = nx.shortest_path(G)\nnx.path_graph(3)", "valid", "networkx.path_graph"),
        ("nx.path_graph(3)", "valid", "networkx.path_graph"),
        ("nx.old(3)", "valid", "networkx.old"),
        ("nx.shortest_path(G, weigth=3)", "wrong_arguments", "networkx.shortest_path"),
        ("nx.shortest_path()", "wrong_arguments", "networkx.shortest_path"),
        ("G = nx.path_graph()\nnx.shortest_path(G)", "wrong_arguments", "networkx.path_graph"),
        ("nx.shortest_way(G)", "hallucinated", "networkx.shortest_way"),
        ("G = nx.grid(3)\nnx.shortest_path(G)", "hallucinated", "networkx.grid"),
        ("nx.shortest_path()\nnx.grid(3)", "hallucinated", "networkx.grid"),
        ("G = nx.Graph()\nG.shortest_path(1, 2)", "hallucinated", "networkx.Graph.shortest_path"),
        ("from networkx import shortest_way\nshortest_way(G)", "hallucinated", "networkx.shortest_way"),
        ("import networkx as nx", "no_call", None),
        ("print('shortest_path')", "no_call", None),
    ],
)
def test_answers_are_judged_by_their_main_call(code: str, verdict: str, called: str | None) -> None:
    """The last statement's outermost call is judged, and everything before it must exist and bind."""
    judgement = judge(fenced(code), ACCEPTABLE, CATALOGUE)
    assert (judgement.verdict, judgement.called) == (verdict, called)


def test_a_judgement_says_why() -> None:
    """A hallucinated call names the nearest entries, an unbound one Python's own reason."""
    assert judge(fenced("nx.shortest_paths(G)"), ACCEPTABLE, CATALOGUE).reason == (
        "networkx.shortest_paths does not exist in networkx 3.6.1; "
        "nearest: networkx.shortest_path, networkx.Graph, networkx.path_graph"
    )
    assert judge(fenced("nx.path_graph()"), ACCEPTABLE, CATALOGUE).reason == (
        "networkx.path_graph: missing a required argument: 'n'"
    )


def test_an_alias_is_acceptable_as_its_entry() -> None:
    """An acceptable path may be any alias of the entry called."""
    for acceptable in SHORTEST.aliases:
        assert judge(fenced("nx.shortest_path(G)"), [acceptable], CATALOGUE).verdict == "exact"


def test_a_method_of_an_unknown_object_may_be_the_acceptable_one() -> None:
    """Where several classes have the method, the acceptable class's one is taken."""
    other = Entry(id="networkx.Heap.copy", kind="method")
    catalogue = Catalogue("networkx", "3", (other, COPY), conventional_alias="nx")
    judgement = judge(fenced("H = G.copy()"), ["networkx.Graph.copy"], catalogue)
    assert (judgement.verdict, judgement.called) == ("exact", "networkx.Graph.copy")
    assert judge(fenced("H = G.copy(as_view=True)"), ["networkx.Heap.copy"], catalogue).verdict == "valid"


def test_unpacked_arguments_are_given_the_benefit_of_the_doubt() -> None:
    """What `*args` holds is unknown, so nothing is missing; what is written out must still fit."""
    assert judge(fenced("nx.path_graph(*sizes)"), (), CATALOGUE).verdict == "valid"
    assert judge(fenced("nx.path_graph(**sizes)"), (), CATALOGUE).verdict == "valid"
    assert judge(fenced("nx.path_graph(*sizes, m=1)"), (), CATALOGUE).verdict == "wrong_arguments"
    assert judge(fenced("nx.path_graph(1, 2, *sizes)"), (), CATALOGUE).verdict == "wrong_arguments"


def test_without_the_convention_an_unimported_alias_means_nothing() -> None:
    """`nx.` without an import counts only if the package's documentation writes it so."""
    catalogue = Catalogue("networkx", "3", (SHORTEST,))
    assert judge("```\nnx.shortest_path(G)\n```", ACCEPTABLE, catalogue).verdict == "no_call"
    assert judge("```\nnetworkx.shortest_path(G)\n```", ACCEPTABLE, catalogue).verdict == "exact"


def test_a_catalogue_survives_json() -> None:
    """Written and read again it is the same; something else is refused with the field's name."""
    assert Catalogue.from_json(CATALOGUE.to_json()) == CATALOGUE
    with pytest.raises(DatasetError, match="version"):
        Catalogue.from_json('{"package": "networkx", "entries": []}')


def test_entries_are_found_by_id_and_alias() -> None:
    """`resolve` knows entries only, `lookup` also what exists and is not listed."""
    assert CATALOGUE.resolve("networkx.DiGraph.add_edge") == ADD_EDGE
    assert CATALOGUE.resolve("networkx.old") is None
    assert CATALOGUE.lookup("networkx.old") == OLD
    assert CATALOGUE.lookup("networkx.new") is None
    assert CATALOGUE.suggest("nx.shortest_pth") == ("networkx.shortest_path",)


def test_signatures_read_as_in_a_def() -> None:
    """Markers for positional-only and keyword-only parameters stand where Python has them."""
    entry = Entry(
        id="p.f",
        kind="function",
        parameters=(
            Parameter("a", "positional_only"),
            Parameter("b", default="1"),
            Parameter("c", "keyword_only"),
            Parameter("d", "var_keyword"),
        ),
    )
    star = Entry(
        id="p.g",
        kind="function",
        parameters=(Parameter("x", "var_positional"), Parameter("y", "keyword_only")),
    )
    assert entry.signature == "(a, /, b=1, *, c, **d)"
    assert star.signature == "(*x, y)"
    assert ADD_EDGE.signature == "(u, v, **attr)"


def test_merged_catalogues_answer_for_both_packages() -> None:
    """Calls of either package resolve, and each conventional alias means its own package."""
    other = Catalogue("pandas", "2", (Entry(id="pandas.read_csv", kind="function"),), conventional_alias="pd")
    merged = merge([CATALOGUE, other])
    assert merged is not None
    assert [call.path for call in calls_in("nx.shortest_path(pd.read_csv())", merged)] == [
        "networkx.shortest_path",
        "pandas.read_csv",
    ]
    assert merged.packages == ("networkx", "pandas")
    assert merge([]) is None
    assert merge([CATALOGUE]) is CATALOGUE


ORDER: tuple[ParameterKind, ...] = (
    "positional_only",
    "positional_or_keyword",
    "var_positional",
    "keyword_only",
    "var_keyword",
)


@st.composite
def signatures(draw: st.DrawFn) -> tuple[Parameter, ...]:
    """Draw a signature that Python would accept."""
    kinds = sorted(draw(st.lists(st.sampled_from(ORDER), max_size=7)), key=ORDER.index)
    parameters: list[Parameter] = []
    defaults_begun = False
    for number, kind in enumerate(kinds):
        if kind.startswith("var_"):
            if any(parameter.kind == kind for parameter in parameters):
                continue
            parameters.append(Parameter(f"p{number}", kind))
            continue
        optional = draw(st.booleans()) or (defaults_begun and kind != "keyword_only")
        defaults_begun = defaults_begun or (optional and kind != "keyword_only")
        parameters.append(Parameter(f"p{number}", kind, default="0" if optional else None))
    return tuple(parameters)


def call_from(parameters: tuple[Parameter, ...], *, optional: bool, by_name: bool) -> str:
    """Write a call that gives every required parameter a value, and the optional ones if asked."""
    given_ones = [
        each for each in parameters if not each.kind.startswith("var_") and (optional or each.required)
    ]
    named = [
        each
        for each in given_ones
        if each.kind == "keyword_only" or (by_name and each.kind == "positional_or_keyword")
    ]
    arguments = ["1" for each in given_ones if each not in named] + [f"{each.name}=1" for each in named]
    return f"pkg.f({', '.join(arguments)})"


@given(signatures(), st.booleans(), st.booleans())
def test_a_call_built_from_a_signature_always_binds(
    parameters: tuple[Parameter, ...], optional: bool, by_name: bool
) -> None:
    """A call that fills a signature is exact; one too short, or with an unknown name, is not."""
    entry = Entry(id="pkg.f", kind="function", parameters=parameters)
    catalogue = Catalogue("pkg", "1", (entry,))
    code = call_from(parameters, optional=optional, by_name=by_name)
    assert judge(f"```\n{code}\n```", ["pkg.f"], catalogue).verdict == "exact"
    required = any(parameter.required for parameter in parameters)
    assert (bind(entry, Call("pkg.f")) is None) == (not required)
    takes_any = any(parameter.kind == "var_keyword" for parameter in parameters)
    unknown = code.replace(")", ", nobody=1)").replace("(, ", "(")
    assert (judge(f"```\n{unknown}\n```", ["pkg.f"], catalogue).verdict == "exact") == takes_any


@given(st.text())
def test_any_text_gets_a_verdict(text: str) -> None:
    """Judging never fails, whatever a model says."""
    for answer in (text, f"```python\n{text}\n```", f"```\nnx.{text}(1)"):
        assert judge(answer, ACCEPTABLE, CATALOGUE).verdict in (
            "exact",
            "valid",
            "wrong_arguments",
            "hallucinated",
            "no_call",
        )
