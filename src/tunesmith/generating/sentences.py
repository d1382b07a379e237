"""A docstring's first sentence as the predicate of another: "Return the path." to "returns the path"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tunesmith.catalogue import EntryKind

MOST_WORDS = 23

# Verbs that docstrings begin with. A word that is not here still counts as a verb before an article.
_VERB_LIST = """
accept access activate add adjust aggregate align allocate allow analyze append apply approximate
arrange assemble assert assign attach attempt bind bisect break broadcast build cache calculate call
cancel cast change check choose clear clip clone close cluster coerce collapse collect color combine
compare compile complete compose compress compute concatenate configure connect construct contract
convert copy count cover create cut decide declare decode decompose decorate decrease define delete
describe deserialize detect determine discard display divide do download draw drop dump emit enable
encode enforce ensure enumerate escape establish estimate evaluate examine execute expand export extend
extract fetch fill filter find fit fix flatten flip force format freeze generate get give group guess
handle hash hide identify implement import increase indicate infer initialize insert inspect install
interpolate interpret intersect invert iterate join keep label launch list load locate log look make map
mark match maximize measure merge minimize modify move multiply normalize notify obtain open optimize
order orient pack parse partition pass paste perform permute pick plot pop populate position predict
prepare print process produce project propagate provide prune push put query raise randomize rank read
rearrange rebuild receive reconstruct record recover reduce refresh register reinitialize relabel
release reload remove rename render reorder repeat replace report represent request require reset
reshape resize resolve restore restrict retrieve return reverse rewrite rotate round run sample save
scale scan search see select send serialize set shift show shuffle simplify simulate skip slice solve
sort specify split start stop store stratify strip subtract sum suppress swap switch take tell test
tokenize trace track train transform translate transpose traverse triangulate trim truncate try turn
undo unescape unfreeze unpack update upload use validate verify view visit wait walk warn wrap write
yield
"""
_VERBS = frozenset(_VERB_LIST.split())
# What follows a noun, where the same word could be a verb: "Partition created by ...", "View of ...".
_AFTER_A_NOUN = frozenset(("of", "between", "created", "class", "object", "function", "method"))
# Verbs that after "and" are as likely a noun: "paths and lengths", "add a cut and set its value".
_OFTEN_NOUNS = frozenset(
    (
        *(
            "access",
            "attempt",
            "break",
            "cache",
            "call",
            "change",
            "check",
            "cluster",
            "color",
            "copy",
            "count",
        ),
        *(
            "cover",
            "cut",
            "display",
            "estimate",
            "filter",
            "fit",
            "fix",
            "format",
            "function",
            "group",
            "hash",
        ),
        *(
            "import",
            "increase",
            "join",
            "label",
            "list",
            "load",
            "log",
            "look",
            "make",
            "map",
            "mark",
            "match",
        ),
        *(
            "measure",
            "move",
            "order",
            "parse",
            "partition",
            "position",
            "process",
            "project",
            "query",
            "rank",
        ),
        *("record", "release", "report", "request", "return", "reverse", "run", "sample", "scale", "search"),
        *(
            "set",
            "shift",
            "show",
            "sort",
            "split",
            "start",
            "stop",
            "store",
            "sum",
            "switch",
            "test",
            "trace",
        ),
        *("track", "train", "turn", "update", "use", "view", "visit", "wait", "walk"),
    )
)
_PREPOSITIONS = r"(?:of|in|for|to|from|with|that|between|on|over|by|at|using|as|which)"
_DETERMINERS = frozenset(
    ("a", "an", "the", "all", "any", "each", "every", "its", "this", "these", "it", "them")
)
# Words that end like an adverb and are none.
_NOT_ADVERBS = frozenset(("only", "apply", "multiply", "supply", "reply", "assembly", "family", "monopoly"))
# Where a sentence can end: better before a clause of its own than before what narrows the words before.
_CLAUSES = re.compile(
    r"(?<=[;:,]) |\s(?=(?:using|such that|which|where|while|given|according|so that|based|if|when|because|"
    r"subject|until|unless|but)\s)"
)
_PHRASES = re.compile(r"\s(?=(?:that|by|with|without|for|from|whose)\s)")


@dataclass(frozen=True, slots=True)
class Predicate:
    """What an entry does, without its subject: "returns the shortest path", and "get the shortest path".

    `infinitive` is None where the sentence says what something is and not what it does.
    """

    text: str
    infinitive: str | None


def plain(text: str) -> str:
    """Return one line without reStructuredText: roles, double backticks, emphasis, footnotes, formulas."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r":[\w:+-]+:`~?([^`<]+?)(?: ?<[^>]*>)?`", r"`\1`", text)
    text = re.sub(r"`([^`<]+) <[^>]*>`__?", r"\1", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r" ?\[\d+\]_?", "", text)
    text = re.sub(r"(?<![\w$`])\$([^$`]+)\$", r"`\1`", text)
    text = re.sub(r"(?<![\w*])\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}(?![\w*])", r"\1", text)
    text = re.sub(r"`_+(?!\w)", "`", text)
    # "a intersection graph", "an random graph" are slips that a model would learn.
    text = re.sub(r"\b([Aa]) (?=[aeio](?!u|ne\b|nce\b)[a-z]{2})", r"\1n ", text)
    return re.sub(r"\b([Aa])n (?=[bcdfgjklmnpqrstvwyz][a-z]{2})", r"\1 ", text)


def first_sentence(text: str) -> str:
    """Return the first sentence of prose without its full stop; abbreviations and figures do not end one."""
    text = plain(text)
    end = re.search(
        r"(?<!e\.g)(?<!i\.e)(?<!\bvs)(?<!\bcf)(?<!et al)(?<!\betc)[.!?](?=\s+[A-Z`\"(]|\s*$)", text
    )
    return (text[: end.start()] if end else text).rstrip(" .;:,")


def third_person(verb: str) -> str:
    """Return a regular verb's third person: "find" to "finds", "apply" to "applies"."""
    if verb == "do":
        return "does"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if re.search(r"(?:s|x|z|ch|sh|o)$", verb) else f"{verb}s"


def begins_with_verb(sentence: str) -> bool:
    """Tell whether a phrase begins with a verb that is hardly ever a noun: "Ensure connectivity"."""
    first, _, rest = sentence.partition(" ")
    verb = _base_form(first, rest.partition(" ")[0])
    return verb is not None and verb not in _OFTEN_NOUNS


def predicate(summary: str, kind: EntryKind, name: str) -> Predicate:
    """Return what an entry's summary says of it, at most `MOST_WORDS` words long.

    Verbs come in the third person ("Return", "Returns" to "returns"); a noun phrase becomes what a function
    returns or what a class is. `name` is used where the summary only repeats the signature, or is empty.
    """
    sentence = _without_tail(first_sentence(_without_signature(plain(summary))))
    if not sentence:
        return Predicate(_from_name(name, kind), None)
    said = (
        _about_itself(sentence, name)
        or _clause(sentence)
        or _verb_phrase(sentence)
        or _known_noun_phrase(sentence)
        or _noun_phrase(sentence, kind)
    )
    return Predicate(shorten(said.text), None if said.infinitive is None else shorten(said.infinitive))


def shorten(text: str, most_words: int = MOST_WORDS) -> str:
    """Return the text cut where a clause ends, so that it has at most `most_words` words if that can be."""
    if len(text.split()) <= most_words:
        return text
    without_brackets = re.sub(r" \([^()]*\)", "", text)
    if len(without_brackets.split()) <= most_words:
        return without_brackets
    for breaks in (_CLAUSES, _PHRASES):
        pieces = [without_brackets[: match.start()] for match in breaks.finditer(without_brackets)]
        fitting = [piece for piece in pieces if 5 <= len(piece.split()) <= most_words and _balanced(piece)]
        if fitting:
            return fitting[-1].rstrip(" ;:,")
    return without_brackets


def _balanced(text: str) -> bool:
    return (
        text.count("(") == text.count(")") and text.count("`") % 2 == 0 and not text.endswith((" and", " or"))
    )


def _without_signature(text: str) -> str:
    """Drop "getrandbits(k) -> x." before the prose; nothing is left of a mere signature."""
    return re.sub(r"^[\w.]+\([^()]*\)(?:\s*->\s*[^.]*)?(?:[.:]\s*|\s*$)", "", text)


def _without_tail(sentence: str) -> str:
    """Drop what says nothing without its context: "; See DegreeView", ": advanced interface"."""
    sentence = re.sub(r"[;,.] (?:see|See) .*$", "", sentence)
    return re.sub(r"\s*(?::|, as) (?:advanced interface|follows|options are)$", "", sentence).strip()


def _from_name(name: str, kind: EntryKind) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").strip().lower()
    return f"makes {_article(words)} {words} object" if kind == "class" else f"is the {kind} for {words}"


def _article(words: str) -> str:
    spoken_vowel = re.match(r"[aeiouAEIO]|[AEFHILMNORSX](?=[A-Z])", words) and not re.match(
        r"uni|use|uti|eu|one\b", words
    )
    return "an" if spoken_vowel else "a"


def _about_itself(sentence: str, name: str) -> Predicate | None:
    """Take what follows the entry's own name: "The MappedQueue class implements a heap"."""
    own = re.match(
        rf"(?:(?:An?|The) )?{re.escape(name)}(?: (?:class|function|method))? "
        r"(?!class |function |method )(?=(?:is|\w+s) )",
        sentence,
    )
    return Predicate(sentence[own.end() :], None) if own else None


def _clause(sentence: str) -> Predicate | None:
    """Take a sentence that states a requirement as one: "Edges in the mapping should be ordered"."""
    found = re.search(
        r"^(?:(?!(?:that|which|where|when|before|after|if|until|while|than) )\S+ )+?(?:should|must) ",
        sentence,
    )
    if found is None or _base_form(*(sentence.split()[:2])) in _VERBS:
        return None
    return Predicate(f"requires that {_lower_first(sentence)}", None)


def _verb_phrase(sentence: str) -> Predicate | None:
    first, _, rest = sentence.partition(" ")
    if first == "This":
        # "This dataclass represents a partition" says it of itself.
        _, _, sentence = rest.partition(" ")
        first, _, rest = sentence.partition(" ")
    adverb = ""
    if first.endswith("ly") and first.lower() not in _NOT_ADVERBS:
        adverb, (first, _, rest) = f"{first.lower()} ", rest.partition(" ")
    verb = _base_form(first, rest.partition(" ")[0])
    if verb is None or (not rest and verb != "run"):
        return None
    imperative = first.lower() == verb
    rest = _with_article(verb, rest)
    text = f"{adverb}{third_person(verb)} {_third_person_after_and(rest) if imperative else rest}"
    return Predicate(text, _infinitive(adverb, verb, rest if imperative else _base_form_after_and(rest)))


def _base_form(word: str, following: str) -> str | None:
    """Return the verb that a sentence begins with, None if the word is no verb there."""
    lower = word.lower()
    if not lower.isalpha() or (word.isupper() and len(word) > 1) or following in _AFTER_A_NOUN:
        return None
    candidates = [lower, *([f"{lower[:-3]}y"] if lower.endswith("ies") else []), lower[:-1], lower[:-2]]
    for candidate in candidates:
        if candidate in _VERBS and lower in (candidate, third_person(candidate)):
            return candidate
    before_article = following.lower() in _DETERMINERS or following.startswith("`")
    if not before_article or lower in _DETERMINERS or re.search(r"(?:ing|ed|ion|if|for|by|of|to)$", lower):
        return None
    return lower[:-1] if lower.endswith("s") and not lower.endswith("ss") else lower


_MAKERS = ("return", "read", "create", "convert", "make", "compute", "find", "get", "construct", "calculate")
_BARE_GRAPH = re.compile(
    r"(?:new |simple )?(?:undirected |directed )?(?:graph|digraph)(?: (?:from|in|as|to|with|for|using)\b|$)"
)


def _with_article(verb: str, rest: str) -> str:
    """Put the article that hurried docstrings leave out: "Returns adjacency matrix of G"."""
    makes = verb in _MAKERS
    if _BARE_GRAPH.match(rest):
        return f"a {rest}" if makes else f"the {rest}"
    if makes and rest.startswith("total "):
        return f"the {rest}"
    noun = re.match(r"((?:[\w-]+ ){0,3}?([a-z-]+)) (?:of|for|between) ", rest)
    if not makes or noun is None or _is_plural(noun[1]) or re.search(r"['’]s$", rest.partition(" ")[0]):
        return rest
    first = rest.partition(" ")[0]
    if first.lower() in (*_DETERMINERS, *_NO_ARTICLE) or re.search(rf"\b{_PREPOSITIONS}\b", noun[1]):
        return rest
    return f"{_article(rest)} {rest}" if noun[2] in _CONTAINERS else f"the {rest}"


_NO_ARTICLE = frozenset(("true", "false", "none", "whether", "both", "some", "one", "two", "three", "only"))
_CONTAINERS = frozenset(
    (
        "copy",
        "dict",
        "dictionary",
        "generator",
        "iterator",
        "list",
        "sample",
        "sequence",
        "set",
        "string",
        "tuple",
        "view",
    )
)


def _is_plural(phrase: str) -> bool:
    """Tell whether the last word before a preposition is a plural."""
    head = re.split(rf" {_PREPOSITIONS} ", phrase)[0].rpartition(" ")[2]
    return re.search(r"(?<![suia])s$|[^aeiou]ies$|(?:data|vertices|indices)$", head) is not None


def _third_person_after_and(rest: str) -> str:
    def conjugated(match: re.Match[str]) -> str:
        verb, following = match[2], match[3]
        if verb not in _VERBS or following in (*_AFTER_A_NOUN, "and", "or"):
            return match[0]
        set_to = verb == "set" and re.match(r" ?\S+ (?:as|to) ", rest[match.start(3) :])
        sure = verb not in _OFTEN_NOUNS or following in _DETERMINERS or following.startswith("`") or set_to
        noun_first = verb == "update" and following not in ("of", "to")
        return f"{match[1]} {third_person(verb)} {following}" if sure or noun_first else match[0]

    return re.sub(r"\b(and|or|and then) (\w+) (\S+)", conjugated, rest)


def _base_form_after_and(rest: str) -> str:
    def base(match: re.Match[str]) -> str:
        return f"{match[1]} {_base_form(match[2], '') or match[2]} "

    return re.sub(r"\b(and|or|and then) (\w+s) (?=(?:a|an|the|all|it|its|each|every)\b|`)", base, rest)


def _infinitive(adverb: str, verb: str, rest: str) -> str:
    truth = re.match(
        r"(?:`?True`?|whether(?: or not)?|`?True`? or `?False`?) (?:if and only if |if |iff |when )?", rest
    )
    if verb == "return" and truth and re.search(r"\b(?:if|iff|when|whether)\b", truth[0]):
        rest = re.sub(
            r"(?:,| and|, and|;)? ?`?False`?(?: otherwise| if not|,? if .*)?$", "", rest[truth.end() :]
        )
        return f"check whether {rest.rstrip(' ,;')}"
    if verb in ("return", "yield"):
        return f"{adverb}get {rest}"
    return f"{adverb}{verb} {rest}"


def _known_noun_phrase(sentence: str) -> Predicate | None:
    """Return the predicate of noun phrases that say what a function does: iterators, generators."""
    for pattern, verb in (
        (r"(?:An? )?(?:[Ii]terator|[Gg]enerator) over ", "iterate over"),
        (r"(?:An? )?[Gg]enerator (?:for|of) ", "generate"),
        (r"(?:An? )?[Ii]terator (?:for|of) ", "iterate over"),
    ):
        match = re.match(pattern, sentence)
        if match:
            rest = sentence[match.end() :]
            word, _, more = verb.partition(" ")
            return Predicate(" ".join(filter(None, (third_person(word), more, rest))), f"{verb} {rest}")
    if sentence.startswith("Raised "):
        return Predicate(f"is {_lower_first(sentence)}", None)
    match = re.match(r"Exception (?:that is )?(?=raised|for|thrown)", sentence)
    return Predicate(f"is the exception {sentence[match.end() :]}", None) if match else None


def _noun_phrase(sentence: str, kind: EntryKind) -> Predicate:
    first = sentence.partition(" ")[0]
    article = re.match(r"(?:An?|The|One|This) ", sentence)
    phrase = _lower_first(sentence)
    if article:
        # An article that does not suit its noun ("A EdgeView") is mended.
        noun = sentence[article.end() :]
        phrase = f"{_article(noun)} {noun}" if article[0] in ("A ", "An ") else phrase
    elif kind == "class" and _is_plural(phrase):
        return Predicate(f"stands for {phrase}", None)
    elif kind == "class" or re.match(
        r"(?:[Dd]ecorator|[Uu]tility|[Hh]elper|[Ww]rapper|[Cc]lass|[Dd]ummy)\b", first
    ):
        phrase = f"the {phrase}" if first in ("Base", "Internal") else f"{_article(phrase)} {phrase}"
    elif not re.search(r"['’]s$", first):
        phrase = f"the {phrase}"
    finite = re.search(r"^(?:\S+ ){0,3}(?:is|are|implements|represents|uses) ", sentence)
    if finite and article:
        return Predicate(f"says that {phrase}" if kind != "class" else f"is {phrase}", None)
    if kind == "class" or re.search(
        r"\b(?:[Dd]ecorator|[Uu]tility|[Hh]elper|[Ww]rapper|[Cc]lass|[Dd]ummy|version)\b", phrase
    ):
        return Predicate(f"is {phrase}", None)
    head = re.split(rf" {_PREPOSITIONS} ", phrase)[0]
    if re.search(r"(?:algorithm|heuristic|procedure|method|implementation|search)$", head, re.IGNORECASE):
        return Predicate(f"applies {phrase}", f"apply {phrase}")
    return Predicate(f"returns {phrase}", f"get {phrase}")


def _lower_first(sentence: str) -> str:
    """Lower the first letter, unless the word is a name or an abbreviation: "VF2", "Newman's", "EdgeView"."""
    first = sentence.partition(" ")[0]
    name = (
        re.search(r"\d|['’]s?$|^.[a-z]*[A-Z]", first)
        or (first.isupper() and len(first) > 1)
        or re.match(r"\w+ (?:and|&) [A-Z]", sentence)
    )
    return sentence if name else sentence[:1].lower() + sentence[1:]
