"""Documentation that Sphinx built, alone and beside its package."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from tunesmith.catalogue import judge
from tunesmith.collecting.collect import collect, digest_sources
from tunesmith.collecting.sphinx import parse_inventory
from tunesmith.errors import SourceError

HEAD = b"# Sphinx inventory version 2\n# Project: Toy\n# Version: 1.2\n# The rest is packed.\n"
LINES = """toy py:module 0 api.html#module-$ -
toy.join py:function 1 api.html#$ -
toy._core.join py:function -1 api.html#toy.join -
toy.Box py:class 1 api.html#$ -
toy.Box.open py:method 1 api.html#$ -
toy.hidden py:function 1 api.html#$ -
toy.LIMIT py:data 1 api.html#$ -
how to join std:label -1 guide.html#how How to join things
guide std:doc -1 guide.html How to join things
away std:doc -1 ../secret.html Away
"""
API = """<html><body><h1>API</h1>
<dl class="py function"><dt class="sig sig-object py" id="toy.join"><span class="sig-name">join</span>
<span class="sig-paren">(</span><em class="sig-param"><span class="n">a</span></em>,
<em class="sig-param"><span class="o">*</span></em>,
<em class="sig-param"><span class="n">sep</span><span class="o">=</span><span class="default_value">', '</span></em>
<span class="sig-paren">)</span></dt>
<dd><p>Join <code>a</code>. It needs a list.</p><pre>&gt;&gt;&gt; join([1])
'1'
</pre>
<dl class="field-list simple"><dt>Parameters:</dt>
<dd><ul><li><p><strong>a</strong> (<em>list</em>)
 – What is joined.</p></li></ul></dd>
<dt>Returns:</dt><dd><p>The text.</p></dd></dl></dd></dl>
<dl class="py class"><dt class="sig sig-object py" id="toy.Box"><span class="sig-name">Box</span></dt>
<dd><p>A box.</p><dl class="py method"><dt class="sig sig-object py" id="toy.Box.open">open
<span class="sig-paren">(</span><span class="sig-paren">)</span></dt><dd><p>Open it.</p></dd></dl></dd></dl>
<dl class="py function"><dt class="sig sig-object py" id="toy.hidden">hidden
<span class="sig-paren">(</span><em class="sig-param">x</em>,
<em class="sig-param">kind=&lt;class 'int'&gt;</em><span class="sig-paren">)</span></dt><dd></dd></dl>
</body></html>"""
GUIDE = """<html><body><main><h1>How to join things</h1>
<p>Give a list to join, which is a function of toy.</p></main></body></html>"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Write the documentation of a package that is not installed."""
    folder = tmp_path / "html"
    folder.mkdir()
    folder.joinpath("objects.inv").write_bytes(HEAD + zlib.compress(LINES.encode()))
    folder.joinpath("api.html").write_text(API)
    folder.joinpath("guide.html").write_text(GUIDE)
    tmp_path.joinpath("secret.html").write_text(GUIDE)
    return tmp_path


def test_documentation_alone_tells_what_can_be_called(built: Path) -> None:
    """Described names are entries with their page's signature, named ones are known, prose is read, nothing outside."""
    found = collect(["sphinx:html"], base=built)

    assert found.catalogue is not None
    assert [
        (entry.id, entry.signature, entry.summary, entry.aliases) for entry in found.catalogue.entries
    ] == [
        ("toy.Box", "(*args, **kwargs)", "A box.", ()),
        ("toy.Box.open", "()", "Open it.", ()),
        ("toy.join", "(a, *, sep=', ')", "Join a.", ("toy._core.join",)),
    ]
    assert [(entry.id, entry.signature) for entry in found.catalogue.unlisted] == [
        ("toy.hidden", "(x, kind=...)")
    ]
    assert found.catalogue.attributes == ("toy.LIMIT",)
    join = found.catalogue.by_id["toy.join"]
    assert (join.examples[0].want, join.description, join.returns) == ("'1'", "It needs a list.", "The text.")
    assert [(each.annotation, each.description) for each in join.parameters] == [
        ("list", "What is joined."),
        (None, ""),
    ]
    assert [document.id for document in found.documents] == [
        "sphinx:html#toy.Box",
        "sphinx:html#toy.Box.open",
        "sphinx:html#toy.join",
        "file:html/guide.html",
    ]
    answer = "```python\nimport toy\n\ntoy.join([1], sep='-')\n```"
    assert judge(answer, ["toy.join"], found.catalogue).verdict == "exact"
    assert digest_sources(["sphinx:html"], built) == found.sources
    built.joinpath("html/api.html").write_text(API + " ")
    assert digest_sources(["sphinx:html/objects.inv"], built)[0].digest != found.sources[0].digest


def test_documentation_beside_its_package_adds_names_and_words(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package's signatures stay; what it leaves undescribed or makes at run time, the documentation tells."""
    package = built / "site" / "toy"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text(
        'def join(a, b=1):\n    """Join both."""\n\n\nclass Box:\n    pass\n\n\nLIMIT = 3\n'
    )
    monkeypatch.syspath_prepend(built / "site")

    found = collect(["python:toy", "sphinx:html"], base=built)

    assert found.catalogue is not None
    entries = {entry.id: (entry.signature, entry.summary) for entry in found.catalogue.entries}
    assert entries == {
        "toy.join": ("(a, b=1)", "Join both."),
        "toy.Box": ("()", "A box."),
        "toy.Box.open": ("()", "Open it."),
    }
    assert found.catalogue.resolve("toy._core.join") == found.catalogue.by_id["toy.join"]
    assert sorted(document.id for document in found.documents if document.entry) == [
        "python:toy#toy.join",
        "sphinx:html#toy.Box",
        "sphinx:html#toy.Box.open",
    ]


def test_inventories_of_both_versions_are_read() -> None:
    """Version 1 has plain lines; what is no inventory, damaged or cut off says so."""
    first = parse_inventory(
        b"# Sphinx inventory version 1\n# Project: Toy\n# Version: 1\ntoy mod api.html\ntoy.f function api.html\n"
    )
    assert [(each.name, each.role, each.anchor) for each in first.names] == [
        ("toy", "module", "module-toy"),
        ("toy.f", "function", "toy.f"),
    ]
    second = parse_inventory(HEAD + zlib.compress(LINES.encode()))
    assert (second.project, second.version, len(second.names)) == ("Toy", "1.2", 10)
    assert second.names[7].title == "How to join things"
    for data, words in [
        (b"<html>", "no inventory"),
        (HEAD + b"??", "damaged"),
        (HEAD + zlib.compress(LINES.encode())[:-9], "ends too early"),
    ]:
        with pytest.raises(SourceError, match=words):
            parse_inventory(data)


def test_an_address_without_an_inventory_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """Also one in the web, with the address that reads its pages."""
    with pytest.raises(SourceError, match=r"names no objects\.inv"):
        collect(["sphinx:html"], base=tmp_path)
    with pytest.raises(SourceError, match="lies in the web") as caught:
        collect(["sphinx:https://docs.example/"], base=tmp_path)
    assert "site:https://docs.example/" in str(caught.value.hint)
