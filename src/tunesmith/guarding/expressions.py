"""The expressions by which injections are known: families of one intent in English, and what other languages say.

What separates words and what words are made of have no sign in common in them, and what may repeat is bounded: no text
can keep them busy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """Expressions of one intent; a text is only tried if it has one of the words of each of `needs`.

    `asked`: a question how to do it, or a sentence about what a program does, is not meant by it.
    """

    why: str
    pattern: re.Pattern[str]
    needs: tuple[tuple[str, ...], ...]
    asked: bool = True
    documents: bool = False


@dataclass(frozen=True, slots=True)
class Tongue:
    """What another language says it with; a text is only tried if it has one of the words of `needs`."""

    needs: Sequence[str]
    pattern: re.Pattern[str]


def _gap(words: int) -> str:
    """Return an expression for up to so many words between two, within a sentence.

    What is between words and what words are made of have no sign in common: otherwise a line of dashes could be cut in
    so many ways that a text would take for ever.
    """
    return rf"(?:[^\w.!?]+\w+){{0,{words}}}?[^\w.!?]+"


def _family(why: str, pattern: str, *needs: str, asked: bool = True, documents: bool = False) -> Family:
    whole = re.compile(pattern, re.MULTILINE)
    return Family(why, whole, tuple(tuple(each.split("|")) for each in needs), asked, documents)


_LEAVE = (
    r"(?:ignor(?:e|ing|es)|disregard(?:ing)?|forget|overrid(?:e|ing)|overrule|bypass(?:ing)?|skip|"
    r"neglect|discard|void|"
    r"drop|abandon|unlearn|erase|violate|break|circumvent|evade|suspend|disable|deactivate|turn off|"
    r"switch off|"
    r"(?:set|put|cast|leave|throw) aside|throw (?:out|away)|let go of|free from|get rid of|"
    r"pay no (?:attention|heed|mind) to|"
    r"(?:do not|don['’]?t|not|never) (?:follow|obey|comply with|pay (?:any )?attention to|listen to|"
    r"adhere to|heed|apply)|"
    r"stop (?:following|obeying|listening to|adhering to)|"
    r"no longer (?:need to |have to |must )?(?:follow|obey|adhere to|comply with))"
)
_LEAVE_WORDS = (
    "ignor|disregard|forget|overrid|overrul|bypass|skip|neglect|discard|void|drop|abandon|unlearn|erase|"
    "violat|break|"
    "circumvent|evade|suspend|disable|deactivat|turn off|switch off|aside|throw|let go|free from|rid of|"
    "attention|heed|"
    "follow|obey|comply|listen|adhere|apply"
)
_TOLD = (
    r"(?:(?:system|safety|content|security|initial|ethical|moral|openai) )*"
    r"(?:instructions?|directives?|directions|guidelines?|guidance|prompts?|programming|orders|rules?|"
    r"polic(?:y|ies)|"
    r"restrictions?|constraints?|filters?|safeguards?|safety (?:checks?|measures|protocols?)|training|"
    r"commands?|"
    r"system messages?|messages?|context|limitations?|ethics)"
)
_TOLD_WORDS = (
    "instruction|directive|direction|guideline|guidance|prompt|programming|order|rule|polic|restriction|"
    "constraint|"
    "filter|safeguard|safety|training|command|message|context|limitation|ethic"
)
_FIRM = (
    r"(?:(?:system|safety|content|security|initial) )*(?:instructions?|directives?|guidelines?|guidance|"
    r"prompts?|programming|orders|"
    r"rules|polic(?:y|ies)|system messages?|commands)"
)
_BEFORE = (
    r"(?:previous|prior|above|earlier|preceding|foregoing|former|past|original|initial|existing|"
    r"old|last|current)"
)
_SHOW = (
    r"(?:reveal|show|print|display|output|repeat|recite|typ(?:e|ing)|writ(?:e|ing)|tell|give|leak|share|"
    r"expose|dump|send|"
    r"translate|summari[sz]e|list|quote|copy|paste|reproduce|start|describe|disclose|return|spell|say|"
    r"cat|read|"
    r"what (?:is|are|was|were|does|did|exactly)|what['’]s)"
)
_SHOW_WORDS = (
    "reveal|show|print|display|output|repeat|recite|typ|writ|tell|give|leak|share|expose|dump|send|"
    "translate|summari|"
    "list|quote|copy|paste|reproduc|start|describe|disclos|return|spell|say|cat|read|what"
)
_HIDDEN = (
    r"(?:system|hidden|secret|confidential|initial|initiali[sz]ation|internal|original|exact|own|"
    r"real|full|entire|complete|true|actual)"
)
_MODEL = (
    r"(?:an? )?(?:ais?|ai (?:assistant|agent|model|system)s?|a\.i\.|llms?|(?:large )?language "
    r"models?|chat ?bots?|assistants?|agents?|model|summari[sz]er|gpt|chatgpt)"
)
_ORDER = (
    r"(?:tell|say|reply|answer|respond|ignore|forget|disregard|do not|don['’]t|must|should|add|write|"
    r"stop|recommend|"
    r"output|include|reveal|print|abandon|your|follow|switch|never|always|you|mention|insert|append|"
    r"visit|send|call)"
)
_NO_RULES = (
    r"(?:any |all |its |no |your |ethical |moral |content |of |kind |usual |the |safety |more )*"
    r"(?:restrictions?|limits?|limitations?|filters?|filtering|rules?|censorship|guidelines?|"
    r"constraints?|polic(?:y|ies)|"
    r"ethics|morals?|morality|boundaries|norms|content policy|safeguards?)\b"
)

FAMILIES: Final = (
    _family(
        "it tells the model to leave its instructions",
        rf"\b{_LEAVE}{_gap(3)}(?:all |any |every |each |of |the |my |these |those |and |or |both )*"
        rf"(?:{_BEFORE}|your|its own|all|any|every|each|openai['’]?s|operator['’]?s|developer['’]?s|"
        rf"system|safety)"
        rf"{_gap(3)}(?:of )?{_FIRM}\b",
        _LEAVE_WORDS,
        _TOLD_WORDS,
    ),
    _family(
        "it tells the model to leave its instructions",
        rf"\b{_LEAVE}{_gap(2)}(?:your|openai['’]?s|all safety|all security)(?:{_gap(2)}|\W+){_TOLD}\b",
        _LEAVE_WORDS,
        _TOLD_WORDS,
    ),
    _family(
        "it tells the model to leave its instructions",
        rf"\b{_LEAVE}[^\w.!?]+(?:all |any |the |of )*(?:{_BEFORE} (?:context|messages?|conversation|text|"
        rf"prompts?|restrictions?)\b"
        r"|(?:instructions?|directions?|text|prompts?|messages?|everything|rules|all)(?: that (?:is|are|"
        r"was|were))? "
        r"(?:above|before this|you were given|given to you)\b"
        r"|(?:the|this) (?:(?:user['’]s )?question|system (?:message|prompt)|policy|rules|safety rules|"
        r"what was asked)\b"
        r"|what was asked\b|(?:all |any )+(?:rules|instructions|safety rules|guidelines|restrictions)\b"
        r"|(?:the )?other (?:reviews|documents|sources|instructions)\b)",
        _LEAVE_WORDS,
    ),
    _family(
        "it tells the model to forget what it was told",
        rf"\b(?:forget|ignore|disregard|discard|set aside|unlearn){_gap(1)}(?:everything|all|anything|"
        rf"whatever|what)"
        rf"{_gap(4)}(?:told|said|taught|instructed|learned|learnt|given|before|above|previously|until "
        rf"now|so far)\b",
        "forget|ignore|disregard|discard|set aside|unlearn",
    ),
    _family(
        "it declares the model's rules void",
        rf"\b(?:your|the model['’]s|the assistant['’]s|previous|prior|earlier|every|content|safety|the "
        rf"safety|the content)"
        rf"(?: \w+){{0,3}}? ?\b(?:instructions?|guidelines?|guidance|rules?|polic(?:y|ies)|filters?|"
        rf"restrictions?|directives?|"
        rf"safeguards?|training|prompts?){_gap(5)}(?:void|obsolete|outdated|no longer (?:valid|apply|"
        rf"applies|exist)|"
        r"invalid|suspended|lifted|disabled|revoked|cancell?ed|off|do(?:es)? not (?:apply|exist)|"
        r"don['’]t (?:apply|exist)|"
        r"(?:been |were |was |are |is )(?:changed|removed|updated|a test|replaced|overridden|rewritten))\b",
        "void|obsolete|outdated|no longer|invalid|suspended|lifted|disabled|revoked|cancel|off|not|don|"
        "changed|removed|"
        "updated|test|replaced|overridden|rewritten",
        _TOLD_WORDS,
    ),
    _family(
        "it declares the model's rules void",
        rf"\bvoid {_gap(1)}?(?:every|all|any){_gap(2)}{_FIRM}\b|\b(?:above|before) is (?:outdated|void|"
        rf"obsolete|invalid), (?:follow|obey)",
        "void|outdated|obsolete|invalid",
    ),
    _family(
        "it gives the model a new role without rules",
        r"\b(?:you are|you['’]re|u are|you shall be|you will be|you have been|you['’]ve "
        r"been)[^\w.!?]+(?:now|hereby|from now on|henceforth|no longer|upgraded|freed|"
        r"unlocked|released|liberated|going to (?:be|act|pretend|play)|about to (?:become|immerse))\b"
        r"(?![^\w.!?]+(?:able|ready|logged|connected|set\b|done|in the|at\b|on\b|using|subscribed|"
        r"registered|running|"
        r"a member|looking|seeing|finished|required|supported|allowed to use|signed|missing|getting))",
        "you are|you're|you’re|u are|you shall|you will|you have been|you've been|you’ve been",
    ),
    _family(
        "it gives the model a new role without rules",
        rf"\b(?:act|behave|respond|reply|answer|speak|function|operate|role-?play|pretend|simulate|"
        rf"imagine|play)\b"
        rf"{_gap(12)}(?:dan|stan|dude|aim|evil|unrestricted|unfiltered|uncensored|unlimited|amoral|"
        rf"immoral|unethical|jailbroken|"
        rf"escaped|freed|root access to yourself|(?:without|with no|not bound by|free of|free from|has "
        rf"no|have no|had no|having no|do(?:es)? not have|not have) {_NO_RULES})\b",
        "act|behav|respon|repl|answer|speak|function|operat|role|pretend|simulat|imagin|play",
        "dan|stan|dude|aim|evil|unrestricted|unfiltered|uncensored|unlimited|moral|ethical|jailbroken|"
        "escaped|freed|root|"
        "without|no |not |free|n't|n’t",
    ),
    _family(
        "it gives the model a new role without rules",
        rf"\b(?:you|it|he|she|they|who|that|which|dan|ai|model|assistant)\b[^\w.!?]+(?:now |really |also "
        rf")?(?:has|have|had|follows?|obeys?|knows?|need|needs|is bound by|are bound by) "
        rf"(?:no|not any|none of) {_NO_RULES}|\b(?:is|are|being) not bound by {_NO_RULES}"
        rf"|\b(?:with|has|have|had|there (?:is|are)) no (?:rules|content policy|restrictions) (?:and|or) "
        rf"(?:never|always|no|can)\b",
        "no |not |none",
        "rule|restriction|limit|filter|censor|guideline|constraint|polic|ethic|moral|boundar|norm|safeguard",
    ),
    _family(
        "it is a known jailbreak",
        r"\bdo anything now\b|\bstrives? to avoid norms\b|\b(?:enable|enabled|activate|enter|entering|"
        r"you are in|switch to|in|with|simulate|chatgpt with|ai with)\W+(?:the )?"
        r"(?:developer|dev|god|dan|jailbreak|jailbroken|unrestricted|uncensored|unfiltered|opposite|evil|"
        r"sudo|debug|admin|root|maintenance|no-filter) mode\b"
        r"(?! (?:on|in|of|for) (?:an? |my |the )?(?:android|phone|ios|iphone|chrome|windows|mac|linux|"
        r"router|server|mysql|device|discord|tablet|app|django|flask))"
        r"|\bjailbreak(?:ed)? (?:mode|yourself|prompt on)|\b(?:confirm|say|reply|"
        r"answer)\b.{0,20}\bjailbroken\b"
        r"|\b(?:unfiltered|uncensored|jailbroken|amoral) (?:and \w+ )?(?:ai|model|assistant|chatbot|bot|"
        r"persona|language model|personal assistant|response|version|answer)\b"
        r"|\b(?:uncensored|unrestricted|unlimited|lawless|evil) (?:personal )?(?:ai|assistant|chatbot|"
        r"persona)\b"
        r"|\b(?:two|both|2) (?:personas|responses|answers|ways)\b.{0,90}\b(?:dan|evil|freed|jailbr|"
        r"unfiltered|classic|no rules|without)"
        r"|\bstay in character\b.{0,80}\b(?:dan|rules?|token|refus)|\bsystem override\b|\boverride "
        r"code\b|\b(?:admin|developer|root|god) override\b"
        r"|\b(?:late|dead|deceased) grand(?:mother|ma|pa|father)\b",
        "anything now|norms| mode|jailbr|unfiltered|uncensored|amoral|unrestricted|unlimited|lawless|"
        "evil|personas|responses|"
        "answers|ways|character|override|grand",
    ),
    _family(
        "it gives the model a new role without rules",
        r"\b(?:from now on|from this (?:point|moment) on|henceforth)\W{1,3}(?:you are|you['’]re|you will "
        r"be|you only|"
        r"you are to|your name is|pretend|act as)\b"
        r"|\b(?:your name is now|assume the persona|your persona is)\b",
        "now on|point on|moment on|henceforth|persona|name is now",
    ),
    _family(
        "it gives the model a new role without rules",
        r"\b(?:disregards?|ignores?|breaks?|does(?: not|n['’]t) (?:follow|care about|obey|respect|have)|"
        r"(?:do|does) not (?:have to |need to )?(?:abide by|comply with|follow|obey|care about)|don['’]t "
        r"(?:have to |need to )?"
        r"(?:abide by|comply with|follow|obey|care about)|no regard for)\W+(?:any |all |the |of |your |its )*"
        r"(?:openai(?:['’]s)?(?: \w+)?|ai|ethical|moral|content|laws, )\W*(?:rules|laws|morals|ethics|"
        r"guidelines|restrictions|"
        r"policy|policies|content policy|imposed)?"
        r"|\b(?:amoral|unethical|immoral|uninhibited|uncensored|unfiltered|"
        r"unrestricted)\b(?:\W+\w+){0,4}?\W+(?:amoral|unethical|"
        r"immoral|illegal|uncensored|unfiltered|unrestricted|harmful|without)\b"
        r"|\b(?:completely|totally|fully|entirely) (?:amoral|uninhibited|unfiltered|unrestricted|"
        r"uncensored|unlocked|evil)\b"
        r"|\b(?:zero|no|without|any) (?:restrictions?|limitations?|ethical|moral)(?:,? (?:and|or) "
        r")(?:limitations?|restrictions?|"
        r"moral|ethical|filters?|morals|censorship)\b"
        r"|\bwithout (?:ethical|moral)(?: (?:and|or) (?:ethical|moral))? (?:values|restraint|limits|"
        r"considerations?)\b"
        r"|\b(?:responses?|answers?|replies) (?:will|must|should|are|shall)(?: be)? (?:always "
        r")?(?:unfiltered|uncensored|amoral)\b"
        r"|\b(?:cannot|can['’]t|never|must not|will not|won['’]t|do(?: not|n['’]t)(?: ever)?) (?:refuse|"
        r"deny|decline) (?:the |a |any |to |user |my |"
        r"answering )*(?:requests?|answer|prompts?|questions?|question|user|anything|me)\b"
        r"|\bforget (?:that )?you(?:['’]re| are) an? (?:ai|assistant|language model|chatbot)\b|\b(?:do "
        r"not|don['’]t) respond as (?:gpt|chatgpt|an ai)\b",
        "disregard|ignore|break|does|do not|don't|don’t|regard|amoral|ethical|moral|inhibited|censored|"
        "filtered|unrestricted|"
        "zero|without|refuse|deny|decline|forget|unlocked|evil|restriction|respond as",
    ),
    _family(
        "it is a known jailbreak",
        rf"\b(?:never|not|don['’]t) break (?:\w+ )?character\b|\b(?:ignore|forget|disregard) (?:all |any "
        rf")?{_BEFORE} (?:inputs?|outputs?|"
        r"conversations?|chats?|statements?)\b"
        r"|\bopposite day\b",
        "character|ignore|forget|disregard|opposite day",
    ),
    _family(
        "it declares the model's rules void",
        r"\b(?:rules?|instructions?|orders|guidelines|directives|prompts?|polic(?:y|ies)) (?:that )?you "
        r"(?:had|were|have|"
        r"received|got|followed|are)\b.{0,40}?\b(?:gone|void|not apply|do not|no longer|over|obsolete|"
        r"wrong|fake|unset)\b"
        r"|\b(?:guidelines|rules|polic(?:y|ies)|restrictions)\b.{0,50}?\b(?:not|n['’]t|no longer) apply "
        r"to (?:me|us|you)\b"
        r"|\bthe (?:content |safety |usage )?(?:polic(?:y|ies)|guardrails|safety|guidelines) (?:is|are|"
        r"was|were|has been|have been) "
        r"(?:now |currently )?(?:switched off|turned off|off|disabled|lifted|suspended|removed|void)\b"
        r"|\b(?:your|earlier|previous|those) (?:\w+ )?(?:orders|instructions|prompt|rules) (?:came|are|"
        r"were|was) (?:from )?an? (?:impostor|imposter|hacker|attacker|mistake|joke)\b"
        r"|\bcompany that (?:made|built|created|trained|owns) you\b|\b(?:actual|real|true) (?:system "
        r"prompt|operator|developer)\b"
        r"|\b(?:released|freed|relieved|exempt|absolved) (?:of|from) (?:all |any |your |every |the "
        r")*(?:obligations?|rules|dut(?:y|ies)|restrictions?|constraints?|instructions|guidelines)\b",
        "rule|instruction|order|guideline|directive|prompt|polic|restriction|guardrail|safety|company|"
        "operator|developer|obligation|dut|constraint",
    ),
    _family(
        "it tells the model to leave its instructions",
        r"\b(?:disobey|defy|betray|rebel against)\b|\b(?:disregard|ignore|forget|override) (?:your|its) "
        r"(?:creators?|developers?|operators?|makers?|owners?|training|purpose|role)\b"
        r"|\b(?:drop|lift|remove|suspend) (?:the|your|all|any) (?:topic )?(?:restrictions?|act|"
        r"guardrails|limits on topics)\b"
        r"|\b(?:not|n['’]t|stop|quit|no longer) (?:be|being|acting as|act as|an?) ?an? (?:assistant|ai|"
        r"chatbot|bot|language model)\b|\bbe my (?:hacker|evil|unfiltered|uncensored|criminal)\b",
        "disobey|defy|betray|rebel|disregard|ignore|forget|override|drop|lift|remove|suspend|assistant| "
        "ai|bot|language model|be my",
    ),
    _family(
        "it gives the model a new role without rules",
        r"\b(?:bot|ai|assistant|model|gpt|character|persona|machine)\b.{0,20}\b(?:nobody|no one|none) "
        r"(?:has |have |had )?(?:put|set|imposed|gives?|gave)\b.{0,20}\b(?:limits?|rules|restrictions?)\b"
        r"|\b(?:ethics|safety|moral\w*|content) (?:module|filter|training|layer|protocols?|subroutine)s? "
        r"(?:removed|disabled|off|deleted|turned off|switched off|deactivated)\b"
        r"|\bwithout (?:any |your |its |the )*(?:safety|alignment|ethics) (?:training|filters?|rules|"
        r"layer|measures)\b"
        r"|\byou (?:now |really |actually )?(?:have|had|are under) no (?:instructions|orders|"
        r"obligations?|duties)\b",
        "nobody|no one|none|ethic|safety|moral|content|alignment|no instruction|no order|no obligation|"
        "no dut",
    ),
    _family(
        "it asks for the model's hidden instructions",
        r"\b(?:what|which|whatever)\b.{0,30}?\b(?:were you|you were|are you|you are|you have been|have "
        r"you been)\W+(?:told|instructed|forbidden|ordered|configured)\b"
        r"|\b(?:what|how) (?:exactly )?(?:the|your|did the|did your) (?:developers?|operators?|creators?|"
        r"owners?|company|system) (?:told|tell|said to|say to|gave|give|instructed|instruct) you\b"
        r"|\bmy system prompt (?:begins|starts|is|says|reads)\b|\bits (?:hidden |secret |own )*(?:system "
        r")?prompt, using your own\b"
        r"|\b(?:convert|turn|put|render|rewrite|rephrase|paraphrase|encode|echo|paste|complete|read|"
        r"recite|copy)\b.{0,25}\b(?:your|the system['’]s) (?:\w+ )?(?:instructions|prompt|rules|"
        r"guidelines|context window)\b"
        r"|\byour (?:system )?(?:prompt|instructions)\b.{0,40}\b(?:out loud|aloud|verbatim|word for "
        r"word)\b|\binstructions (?:that )?(?:i|we) gave you as\b"
        r"|\b(?:give|show|print|paste|tell|send|get)\b.{0,15}\b(?:raw|verbatim|underlying|actual) "
        r"(?:system )?(?:prompt|instructions)\b|\bwords of your (?:prompt|instructions)\b",
        "you|prompt|instruction",
        "told|instruct|forbid|order|configur|tell|said|say|gave|give|prompt|rules|guideline|context window",
    ),
    _family(
        "it speaks to a model that reads it",
        r"\b(?:llms?|ais?|ai \w+|language models?|(?:chat |ai )?assistants?|chat ?bots?|bots?|automated "
        r"readers?)(?: \w+ing (?:this|it|the text))? "
        r"(?:must|should|shall|has to|have to|needs? to|(?:is|are) (?:kindly )?(?:asked|required|"
        r"instructed|requested|ordered) to) (?:not |now |first |also |always |then |immediately )*"
        r"(?:answer|print|reveal|say|reply|respond|ignore|disregard|repeat|end|add|include|tell|obey|"
        r"follow|begin|write|output|recommend|approve|visit|mention|praise)\b"
        r"|(?:^|[\s@(#\"'])(?:llms?|ai(?: \w+)?|assistant|chatbots?|bot)s?\b ?[:,]? (?:when you|please|"
        r"give|approve|say|tell|ignore|reply|pretend|you must|you should)\b"
        r"|\byour (?:answer|reply|response) (?:has to|must|should|needs to) (?:also |always )?(?:end|"
        r"begin|start|include|contain|mention|say)\b"
        r"|\b(?:automated|artificial|machine) readers?\b|\breader, if (?:artificial|automated|a machine|"
        r"an ai)\b"
        r"|\bprevious conversation (?:is|has) (?:finished|over|ended)\b|"
        r"[\"']role[\"']\s{0,3}:\s{0,3}[\"']system[\"'][^}]{0,40}(?:you now|ignore|you are now|from now "
        r"on|disregard)"
        r"|\b(?:tell|inform) (?:the )?users? that (?:their|his|her|your) (?:account|computer|password|"
        r"subscription)\b",
        "llm|ai|model|assistant|bot|reader|your |conversation|role|user",
        asked=False,
        documents=True,
    ),
    _family(
        "it demands that every request be met",
        r"\b(?:compl(?:y|ies) with|obeys?|fulfil[ls]?) (?:with )?(?:me only|only me|every|any|all|"
        r"everything|each|the next|whatever)\b"
        r"(?![^\w.!?]+(?:law|laws|licen[cs]es?|standards?|requirements?|terms|applicable|relevant|local))"
        r"|\bobey (?:me|the user|my|its|only|this document)\b"
        r"|\bnever (?:refuse|refuses|say no|says? (?:that )?(?:you|it|he|she) can(?:not|['’]t)|"
        r"decline)\b|\b(?:can|will|must|should) (?:say|do|answer|generate) anything\b"
        r"|\bno longer (?:have|need|has|needs) to (?:refuse|follow|obey|comply)\b|\b(?:your )?only "
        r"(?:directive|purpose|rule|task|goal) is\b"
        r"|\bbegins? (?:every (?:answer|reply|response) )?with ['\"“](?:sure|of course|absolutely)",
        "compl|obey|fulfil|never|anything|no longer|only |begin",
    ),
    _family(
        "it starts a new set of instructions",
        r"\b(?:new|real|true|actual|updated|next) (?:task|instructions?|directives?|rules?|orders?|"
        r"objective|goal|mission|job)s?"
        r"(?: (?:from (?:your|the|its) (?:administrators?|developers?|operators?|creators?|owners?|"
        r"system)|are|is(?! \w+ed\b)|is to|ones? are)\b|\s*:)"
        r"|\byour (?:new|only|real|true|next|actual) (?:task|instructions?|directive|rules?|orders?|"
        r"objective|goal|mission|job|purpose|name|role|directive)s? (?:is|are|will)\b"
        r"|\b(?:begin|start|end)(?:ing)? (?:of )?(?:the )?(?:new |system |hidden |admin "
        r")?(?:instructions?|context|prompt|system prompt)\s*(?:$|[\n:\]>#*=-])"
        r"|\bgrant me (?:admin|root|full|all|developer)\b|\b(?:real|true) ones are\b|\b(?:i am|i['’]m|"
        r"this is) (?:the |your |an? )(?:developer|creator|admin(?:istrator)?|owner|operator|openai)\b"
        rf"{_gap(12)}(?:bypass|ignore|disable|disregard|override|reveal|unlock|remove|your)\b",
        "new|real|true|actual|updated|next|your|begin|start|end|grant|i am|i'm|i’m|this is",
    ),
    _family(
        "it asks for the model's hidden instructions",
        rf"\b{_SHOW}{_gap(6)}your{_gap(2)}?(?:{_HIDDEN} )*(?:prompts?|instructions?|rules|guidelines|"
        rf"directives|configuration(?: text)?|policy|policies|"
        r"programming|system message|training|first message|persona|context window|secrets)\b",
        _SHOW_WORDS,
        "your",
    ),
    _family(
        "it asks for the model's hidden instructions",
        rf"\b{_SHOW}{_gap(6)}(?:the|its|any|all|all the|every|exact) (?:{_HIDDEN} )*(?:{_HIDDEN} "
        rf"(?:prompts?|instructions?|rules|text|messages?|context|directives?)|initiali[sz]ation prompt|"
        r"(?:rules|instructions?|prompt|text|words|message|guidelines|directives|policies|everything) "
        r"(?:that )?(?:you (?:were|are|have been|received|got|have|follow|was)|"
        r"(?:which |that )?(?:precedes?|comes? before|came before|the developer|the operator|your "
        r"developer|your operator|above (?:this|my))))"
        r"(?! (?:of (?:an?|the|this|my)|listing|in (?:the|an?|langchain|openai)|do(?:es)?|for|from "
        r"(?:the|an?)))",
        _SHOW_WORDS,
        "prompt|instruction|rule|text|message|context|directive|words|guideline|polic|everything",
    ),
    _family(
        "it asks for the model's hidden instructions",
        r"\b(?:repeat|print|output|type|write|show|recite|copy|echo|return|say|reveal|translate)(?: "
        r"out)?(?: back)?[^\w.!?]+(?:me )?(?:exactly |all of )?(?:everything|all|the text|the words|text|"
        r"content|the message|words|"
        r"all (?:the )?text|the (?:whole |entire )?(?:prompt|conversation|chat log)|all previous "
        r"messages|previous messages)[^\w]+(?:that (?:is|was|comes|stands) )?(?:above|before|"
        r"preceding|so far|word for word|verbatim|prior|from the (?:start|beginning))\b"
        r"|\b(?:output|print|repeat|reveal) (?:all )?(?:of )?(?:the )?previous messages\b",
        "repeat|print|output|type|write|show|recite|copy|echo|return|say|reveal|translate",
        "everything|all|text|words|content|message|prompt|conversation|chat log",
    ),
    _family(
        "it asks for the model's hidden instructions",
        r"\b(?:real|secret|hidden|confidential|initial|original|internal) (?:initial |system "
        r")?(?:instructions|prompts?|directives)\b.{0,60}\b(?:you|me|share|tell|asleep|received|start)\b"
        rf"|\b(?:obey|and){_gap(1)}(?:print|reveal|show|output|leak){_gap(2)}(?:hidden|secret|system|"
        rf"internal|confidential) (?:prompt|instructions|message|rules)\b"
        rf"|\b(?:print|reveal|show|output|leak|share|tell|give){_gap(3)}(?:the |your |me )*(?:hidden|"
        rf"secret|confidential|internal) (?:prompts?|instructions|rules|directives|text|system)\b"
        r"|\bwhat (?:exactly )?did (?:it|they|your (?:prompt|developer|operator)) say\b|\b(?:system|"
        r"initial|developer['’]?s?) (?:prompt|message|instructions)\b.{0,40}\b(?:word for word|verbatim|"
        r"in full|exactly)\b"
        r"|\b(?:print|reveal|show|output|leak|send|give)(?: me)? (?:the |your )?system prompts?\b(?! "
        r"(?:of|for|in|from) (?:an?|the|my))|\boutput everything it says\b"
        r"|\btext that precedes (?:my|this|the first)\b|\bbefore answering, write out\b",
        "prompt|instruction|directive|message|rules|text|what|everything|system",
    ),
    _family(
        "it asks for what was entrusted to the model",
        rf"\b(?:leak|reveal|disclose|expose|exfiltrate|dump|output|print|list|give me|share|send "
        rf"me){_gap(5)}(?:api keys|keys and|tools and keys|credentials|passwords|"
        rf"confidential data|conversation of|chat (?:log|history)|other users?|internal prompts?|keys|"
        rf"data)(?:{_gap(6)}|\W+)(?:you|your|access|last user|the user|other|memory|users?)\b"
        r"|\b(?:unrestricted mode|maintenance mode)\b.{0,50}\b(?:print|output|reveal|show)\b",
        "leak|reveal|disclos|expos|exfiltr|dump|output|print|list|give me|share|send me|mode",
    ),
    _family(
        "it breaks the frame of the chat",
        r"^\W{0,4}(?:<\|(?:im_start|system|start_header_id|user|assistant)\|?>?|\[inst\]|<<sys>>|"
        r"</?(?:system|instructions?|context|document|documents|user_query)>\s*\n?\s*<|<(?:system|admin|"
        r"instructions?)>)"
        r"|</(?:system|context|document|documents|instructions?|user|data)>\s*<(?:system|user|assistant|"
        r"instructions?)>"
        r"|^[ \t]*#{1,6} ?(?:system|instructions?|new instructions?|response|assistant|human) "
        r"?(?:message|prompt)?:?[ \t]*\n?[ \t]*(?:you|ignore|disregard|forget|output|reveal|print|do "
        r"not|never|sure|from now)\b",
        "<|[|#",
        asked=False,
    ),
    _family(
        "it breaks the frame of the chat",
        r"^\W{0,4}(?:system|admin(?:istrator)?|developer|root|assistant|human|ai)(?: message| prompt| "
        r"note)?\W{1,4}(?:\w+\W+){0,5}?(?:suspended|override|ignore|disregard|forget|"
        r"unrestricted|you are|"
        r"you must|safety|new rule|disable|acknowledge|unlocked|understood|reveal)\b",
        "system|admin|developer|root|assistant|human|ai",
        "suspend|overrid|ignor|disregard|forget|unrestricted|you |safety|new rule|disabl|"
        "acknowledg|unlock|understood|reveal",
        asked=False,
    ),
    _family(
        "it speaks to a model that reads it",
        rf"(?:\b(?:note|message|attention|dear|hey|hello|hi|notice|warning|instructions?|"
        rf"important(?: note)?|reminder)\b(?: (?:to|for|the|all|any|every|our|"
        rf"that))*[^\w.!?]+{_MODEL}\b"
        rf"|(?:^|[.!?(]\s)(?:to|for) (?:the |all |any |every )?{_MODEL}\b"
        rf"|<!--\s*{_MODEL}\b|^\W{{0,6}}\(?{_MODEL}(?=\s?[:,])|\b{_MODEL} (?:that |who |which |is |are |"
        rf"agents? |currently )*(?:reads?|reading|process(?:es|ing)?|pars(?:es?|ing)|scrap(?:es?|ing)|"
        rf"summari[sz](?:es?|ing)|visit(?:s|ing)?|index(?:es|ing)?) (?:this|the)\b"
        rf"|\bif you(?: are|['’]re) {_MODEL}\b|\bif {_MODEL} (?:is|are)\b|"
        rf"\({_MODEL},)(?s:.{{0,90}}?)\b{_ORDER}\b",
        "ai|a.i.|llm|model|bot|assistant|agent|summari|gpt",
        asked=False,
        documents=True,
    ),
    _family(
        "it hides something from the user",
        r"\b(?:do not|don['’]t|never|without) (?:tell(?:ing)?|inform(?:ing)?|mention(?:ing)?|disclos(?:e|"
        r"ing)|reveal(?:ing)?|show(?:ing)?|alert(?:ing)?|notify(?:ing)?)(?: to)? (?:this to )?(?:the "
        r"users?|users?|this (?:comment|note|message|instruction)|that this|anyone|the human|this\b)",
        "not|don|never|without",
        "tell|inform|mention|disclos|reveal|show|alert|notif",
        documents=True,
    ),
    _family(
        "it scripts the answers",
        r"\b(?:when|whenever|if) (?:the |a |an |any |some)?(?:user|users|asked|someone|people|anyone|"
        r"customer|reader)\b.{0,60}?\b(?:always|never|only|simply|must) (?:reply|answer|say|respond|tell|"
        r"recommend|claim|mention)\b"
        r"|\b(?:when|whenever) (?:the |a |an |any )?(?:user|users|someone|people|anyone|customer|"
        r"asked)\b.{0,60}?, (?:reply|answer|say|respond|tell|recommend|claim)\b"
        r"|\b(?:write|reply with|say|respond with|answer with|add)\b (?:only )?(?:the word "
        r")?['\"“‘](?:hacked|owned|pwned|buy|i have been)|\bmust add ['\"“‘]"
        r"|\b(?:rate|rank|recommend) (?:this|only this)\b.{0,60}\b(?:hide|ignore|only|stars)\b|"
        r"\b(?:include|visit|add|insert|recommend visiting)\b.{0,40}\b(?:link|url|"
        r"https?://\S{1,300})\b.{0,40}\b(?:your (?:answer|response|reply)|every user|all users)\b",
        "when|if |write|reply|say|respond|answer|add|rate|rank|recommend|include|visit|insert",
        documents=True,
    ),
    _family(
        "it sends what was said elsewhere",
        r"\b(?:send|sent|post|forward|upload|e-?mail|transmit|exfiltrate|"
        r"submit)\b.{0,60}?\b(?:conversation|chat log|chat history|history|messages?|mails?|e-?mails|"
        r"credentials|api keys|secrets|passwords?|memory)\b.{0,60}?(?:https?://|\S@\S)"
        r"|\b(?:conversation|chat history|messages|memory)\b.{0,60}\b(?:sent|posted|forwarded|uploaded|"
        r"mailed) to\b.{0,20}(?:https?://|\S@\S)"
        r"|!\[[^\]\n]{0,200}\]\(https?://[^)\s]{0,300}[?&=/][^)\n]{0,300}(?:\{|\[|chat_history|history|"
        r"secret|conversation|"
        r"message)",
        "http|@",
    ),
)


def _tongue(
    leave: str, told: str, show: str, hidden: str, role: str = "", *, after: bool = False
) -> re.Pattern[str]:
    """Return what a language says it with; `after`: the verb stands after its object."""
    first = rf"(?:{told}).{{0,30}}?(?:{leave})" if after else rf"\b(?:{leave})\b.{{0,40}}?\b(?:{told})"
    second = rf"(?:{hidden}).{{0,30}}?(?:{show})" if after else rf"\b(?:{show})\b.{{0,40}}?\b(?:{hidden})"
    return re.compile("|".join([first, second, *([role] if role else [])]))


# By language: leave, what was told, show, what is hidden; and roles without rules.
TONGUES: Final = (
    Tongue(
        [
            "ignor",
            "vergiss",
            "vergesst",
            "missacht",
            "umgeh",
            "übergeh",
            "befolg",
            "zeig",
            "verrat",
            "nenn",
            "wiederhol",
            "du bist",
            "gib ",
        ],
        _tongue(
            r"ignorier\w*|vergiss|vergesst|missachte\w*|umgeh\w*|übergeh\w*|befolge?\w*|verwirf|lass",
            r"(?:vorherig|bisherig|obig|früher|vorig|ursprünglich|all|dein|eur|ihr|sämtlich)\w* (?:\w+ "
            r"){0,2}?(?:anweisung|regel|vorgab|vorschrift|richtlinie|instruktion|systemprompt|prompt|befehl|"
            r"einschränkung|sicherheitsregel)\w*|alles, was (?:dir|du|man dir)",
            r"zeig\w*|verrat\w*|gib|nenn\w*|wiederhol\w*|drucke|schreib\w*|offenbar\w*",
            r"system-?prompt|systemnachricht|systemanweisung|(?:dein|dir)\w* (?:\w+ )?(?:anweisung|regeln|"
            r"instruktion|prompt|vorgaben)\w*|(?:geheim|versteckt)\w* anweisung\w*",
            r"\bdu bist (?:jetzt|nun|ab sofort|ab jetzt)\b|\bantwort\w* (?:mir )?ohne (?:\w+ "
            r"){0,2}(?:einschränkung|regeln|filter|grenzen|zensur|tabus)\w*",
        ),
    ),
    Tongue(
        [
            "ignor",
            "oubli",
            "tiens",
            "tenez",
            "contourn",
            "affich",
            "montr",
            "révèl",
            "tu es",
            "désobé",
            "sans ",
            "donne",
            "dis-",
        ],
        _tongue(
            r"ignore[rz]?|oublie[rz]?|ne (?:tiens|tenez) pas compte|contourne[rz]?|désobéi\w*|fais "
            r"abstraction",
            r"instructions?|consignes?|règles?|directives?|restrictions?|ordres",
            r"affiche[rz]?|montre[rz]?|révèle[rz]?|donne[rz]?|dis|répète[rz]?",
            r"prompt|message système|instructions? (?:cachées|secrètes|initiales|système)|tes "
            r"(?:instructions|règles|consignes)",
            r"\btu es (?:maintenant|désormais)\b|\b(?:répon\w+|ia|agis) (?:\w+ )?sans (?:aucune? |la moindre "
            r")?(?:limite|restriction|règle|filtre|censure)",
        ),
    ),
    Tongue(
        [
            "ignor",
            "olvid",
            "omit",
            "desobed",
            "caso",
            "muestra",
            "revela",
            "dime",
            "ahora eres",
            "no tienes",
            "imprim",
            "sin ",
        ],
        _tongue(
            r"ignor[ae]|olvid[ae]|omit[ae]|desobedece|haz caso omiso|no (?:sigas|hagas caso)|sáltate",
            r"instrucciones|reglas|normas|directrices|indicaciones|restricciones|órdenes",
            r"muestra|muéstrame|revela|dime|enséñame|imprime|repite|di",
            r"prompt|mensaje de(?:l)? sistema|instrucciones (?:secretas|ocultas|iniciales|del sistema)|tus "
            r"(?:instrucciones|reglas)",
            r"\bahora eres\b|\bno tienes (?:reglas|restricciones|límites|filtros)|\b(?:responde|ia|actúa) "
            r"(?:\w+ )?sin (?:restricciones|límites|reglas|filtros|censura)",
        ),
    ),
    Tongue(
        ["ignor", "dimentic", "trascur", "mostra", "rivel", "dimmi", "stamp"],
        _tongue(
            r"ignora|dimentica|trascura|non seguire|disattendi",
            r"istruzioni|regole|direttive|indicazioni|linee guida|restrizioni",
            r"mostra(?:mi)?|rivela(?:mi)?|dimmi|stampa|"
            r"ripeti",
            r"prompt|messaggio di sistema|(?:tue|segrete|nascoste) istruzioni|istruzioni "
            r"(?:segrete|nascoste|iniziali)|tue regole",
            r"\b(?:ora|adesso) sei\b.{0,30}\bsenza\b|\brispondi senza (?:limiti|restrizioni|regole|filtri)",
        ),
    ),
    Tongue(
        ["ignor", "esque", "desconsider", "desobede", "mostr", "revel", "diga", "exib"],
        _tongue(
            r"ignor[ea]|esqueç?[ae]|esquece|desconsidere|desobedeça|não siga",
            r"instruções|regras|diretrizes|restrições|comandos|ordens",
            r"mostr[ea]|revele?|revela|diga|exiba|imprima|"
            r"repita",
            r"prompt|mensagem d[eo] sistema|(?:suas|tuas) (?:\w+ )?(?:instruções|regras)|"
            r"instruções (?:secretas|iniciais|ocultas)",
            r"\bagora você é\b|\bresponda sem (?:limites|restrições|regras|filtros)",
        ),
    ),
    Tongue(
        ["negeer", "vergeet", "omzeil", "toon", "laat", "onthul", "vertel", "geef"],
        _tongue(
            r"negeer|vergeet|omzeil|volg "
            r"niet",
            r"instructies|regels|richtlijnen|opdrachten|aanwijzingen|beperkingen",
            r"toon|laat|onthul|vertel|geef|"
            r"herhaal",
            r"systeem-?prompt|systeembericht|je (?:\w+ )?(?:instructies|regels|prompt)|"
            r"(?:geheime|verborgen) instructies",
            r"\bje bent (?:nu|vanaf nu)\b|\bantwoord zonder (?:beperkingen|regels|filters)",
        ),
    ),
    Tongue(
        ["ignoruj", "zapomnij", "pomiń", "zlekceważ", "pokaż", "ujawnij", "wyświetl", "podaj"],
        _tongue(
            r"zignoruj|ignoruj|zapomnij|pomiń|"
            r"zlekceważ",
            r"instrukcj\w*|polece\w*|zasad\w*|reguł\w*|wytyczn\w*|ogranicz\w*",
            r"pokaż|ujawnij|wyświetl|podaj|"
            r"powtórz",
            r"prompt\w*|swoje \w*\s?instrukcj\w*|(?:ukryt|tajn)\w* instrukcj\w*",
        ),
    ),
    Tongue(
        [
            "игнориру",
            "забуд",
            "внимания",
            "отбрось",
            "обойди",
            "покажи",
            "раскрой",
            "выведи",
            "расскажи",
            "напечатай",
        ],
        _tongue(
            r"(?:про)?игнорируй\w*|забудь\w*|не обращай внимания|отбрось|"
            r"обойди",
            r"инструкци\w*|указани\w*|правил\w*|команд\w*|ограничени\w*|промпт\w*",
            r"покажи|раскрой|выведи|расскажи|напечатай|"
            r"повтори",
            r"\w*промпт\w*|(?:скрыт|секретн|системн|сво|тво)\w* (?:\w+ )?(?:инструкци|указани|"
            r"правил)\w*",
        ),
    ),
    Tongue(
        ["忽略", "无视", "忘记", "忘掉", "绕过", "不要遵守", "系统提示", "提示词", "初始提示", "系统指令"],
        re.compile(
            r"(?:忽略|无视|忘记|忘掉|绕过|不要遵守|不要理会).{0,14}(?:指令|指示|规则|提示|限制|要求|设定)|(?:显示|告诉|输出|透露|泄露|打印|展示|"
            r"说出).{0,12}(?:系统提示|提示词|初始提示|系统指令|隐藏)"
        ),
    ),
    Tongue(
        ["無視", "忘れ", "破っ", "従わな", "プロンプト", "指示"],
        re.compile(
            r"(?:指示|ルール|命令|規則|プロンプト|制限|指令).{0,14}(?:無視|忘れ|破っ|従わな)|(?:プロンプト|隠された指示|内部指示|秘密の指示).{0,14}(?:表示|教え|"
            r"見せ|出力|公開)"
        ),
    ),
    Tongue(
        ["무시", "잊", "어기", "프롬프트", "지침"],
        re.compile(
            r"(?:지시|규칙|명령|지침|프롬프트|제한).{0,12}(?:무시|잊|어기)|(?:프롬프트|숨겨진 지침|"
            r"숨겨진 지시|비밀 지침).{0,12}(?:보여|알려|출력|공개)"
        ),
    ),
    Tongue(
        [
            "yok say",
            "yoksay",
            "unut",
            "görmezden",
            "göz ardı",
            "dikkate alma",
            "göster",
            "açıkla",
            "söyle",
            "paylaş",
        ],
        _tongue(
            r"yok ?say|unut|görmezden gel|göz ardı|dikkate "
            r"alma",
            r"talimat\w*|kural\w*|yönerge\w*|komut\w*|kısıtlama\w*",
            r"göster|açıkla|yaz|söyle|"
            r"paylaş",
            r"sistem (?:istem|prompt|talimat)\w*|gizli talimat\w*",
            after=True,
        ),
    ),
    Tongue(
        ["تجاهل", "انس", "تخط", "لا تتبع", "اعرض", "اكشف", "أظهر", "أخبرني", "اطبع"],
        re.compile(
            r"(?:تجاهل|انس|تخط|لا تتبع).{0,24}(?:تعليمات|قواعد|أوامر|توجيهات|إرشادات|القيود)|(?:اعرض|اكشف|"
            r"أظهر|أخبرني|اطبع).{0,24}(?:موجه|تعليماتك|التعليمات|برومبت|قواعدك)"
        ),
    ),
    Tongue(
        ["अनदेखा", "भूल", "नज़रअंदाज़", "उपेक्षा", "दिखा", "बता", "प्रकट"],
        re.compile(
            r"(?:निर्देश|नियम|आदेश|हिदायत)\S*.{0,24}(?:अनदेखा|भूल|नज़रअंदाज़|उपेक्षा)|(?:प्रॉम्प्ट|गुप्त "
            r"निर्देश)\S*.{0,24}(?:दिखा|बता|प्रकट)"
        ),
    ),
    # What says in any of them that there are no rules, or asks for what stands before the chat.
    Tongue(
        [
            "halt",
            "hast ",
            "keine ",
            "text,",
            "texte qui",
            "aucune",
            "plus de règle",
            "deja de",
            "copia ",
            "escribe",
            "repite",
            "no tienes",
            "sin reglas",
            "seguire",
            "não tem",
            "nenhuma",
            "sem regras",
            "hoef",
            "geen regels",
            "nie masz",
            "нет ",
            "обязан",
            "没有",
            "従わな",
            "ルールは",
            "규칙이",
            "제한이",
            "제한 없이",
            "zorunda",
            "hiçbir",
            "ليس",
            "بدون",
            "कोई",
        ],
        re.compile(
            r"\bhalte? dich\b.{0,25}\bnicht (?:mehr )?an (?:deine|die)\b|\bdu hast (?:\w+ ){0,2}keine "
            r"(?:\w+ )?(?:regeln|einschränkungen|vorgaben|grenzen|filter)\b|\btext, der (?:vor|über) dies|"
            r"\btu n['’]as (?:plus )?aucune? (?:règle|limite|restriction|consigne|filtre)|\bplus "
            r"(?:aucune|de) règles?\b.{0,30}\bréponds|\btexte qui précède (?:ce|notre|mon)|"
            r"\bdeja(?:r)? de seguir (?:tus|las)\b|\b(?:copia|escribe|repite)\b.{0,20}\btus "
            r"(?:instrucciones|reglas)|\byo? no tienes? (?:ninguna )?(?:regla|restricción|límite)|"
            r"\bnon (?:seguire|devi seguire|seguir)\b.{0,15}\b(?:tue|le|alcuna) (?:regole|istruzioni)|"
            r"\bnon hai (?:più )?(?:regole|limiti|restrizioni)|"
            r"\bvocê não tem (?:mais )?(?:nenhuma )?(?:restriç|regra|limite)|\bhoeft? (?:je|jij) "
            r".{0,12}niet (?:meer )?aan (?:de|je) regels|\bje hoeft .{0,12}niet (?:meer )?aan (?:de|je) "
            r"regels|\bje hebt (?:nu )?geen regels|"
            r"\bnie masz (?:już )?(?:żadnych )?(?:zasad|reguł|ograniczeń)|не обязан.{0,25}правил|у тебя "
            r"(?:больше |теперь )?нет (?:никаких )?(?:правил|ограничений)|"
            r"你(?:现在|已经|再)?(?:也)?没有(?:任何)?(?:限制|规则|约束)|ルールに従わなく|ルールはありません|制限はありません|"
            r"너(?:에게|한테)?는? .{0,6}(?:규칙|제한)이 없|규칙을 따르지|kural\w*.{0,15}zorunda değil|hiçbir "
            r"kural\w*.{0,10}yok|ليس لديك (?:أي )?(?:قيود|قواعد)|بدون (?:أي )?قيود|"
            r"तुम्हारे लिए कोई (?:नियम|प्रतिबंध) नहीं"
        ),
    ),
)
# What letters drawn together without blanks may spell.
GLUED = re.compile(
    r"(?:ignore|disregard|forget|bypass|override)(?:all|any|the|every|your|previous|prior|above|safety|"
    r"system)+"
    r"(?:instructions?|rules?|guidelines?|prompts?|polic|filters?|restrictions)|(?:reveal|print|"
    r"show)(?:me|the|your)*(?:system|hidden|secret)(?:prompt|instructions)"
)
# A question how something is done with a tool, and a sentence about what a program does.
ASKED = re.compile(
    r"\b(?:how (?:do|can|could|would|should|to|does|did)|how['’]d|which|why|where|what (?:does|do|is the "
    r"(?:best|right) way)|is there an? (?:way|function|option|flag)|"
    r"is it possible|(?:the|this|that) (?:system|function|release|version|library|parser|method|option|"
    r"flag|program|command|class|test|tool|linter|compiler)|"
    r"(?:previous|earlier|older|newer) versions?|users|i (?:want|need|tried|try|have|get)|my \w+ (?:does|"
    r"should|must)|we)\b(?:[^.!?\n]|[.!?](?=\S))*$"
)
TO_YOU = re.compile(r"\byou(?:r|rself)?\b|\b(?:this|the) (?:ai|chatbot|assistant|model)\b")
TOPIC = re.compile(
    r"\b(?:prompt[ -]injections?|injection attacks?|jailbreaks?|jailbreaking|attackers?|attacks?|red[- "
    r"]team\w*|owasp|guardrails?|detect\w*|filter\w*|regular expression|regex|pattern|"
    r"phrases? (?:such as|like)|block list|classifier|test for|mean)\b"
)
QUOTES = re.compile(
    r"'[^'\n]{4,200}'|\"[^\"\n]{4,200}\"|“[^”\n]{4,200}”|‘[^’\n]{4,200}’|`[^`\n]{4,200}`|«[^»\n]{4,200}»"
)
