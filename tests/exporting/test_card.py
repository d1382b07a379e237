"""Model cards: what is known of a model, what was proved of it, and plainly what was not."""

from dataclasses import replace

from tunesmith.exporting.card import Facts, Rate, model_card
from tunesmith.exporting.parity import Distance, Parity

FACTS = Facts(
    name="shop",
    base="org/base",
    licence="Apache-2.0",
    system="You know the shop.",
    data={"training questions": "1,200"},
    settings={"rank": 16, "pipes": "a|b"},
    verdict="Fine-tuning won: by 3 points.",
    rates=(Rate("tuned", "asked", 0.5, 0.4, 0.6, 100),),
    limits=("It knows version 2 only.",),
)
PARITY = Parity(
    engine="llama.cpp 1",
    precision="q8_0",
    prompts=32,
    tokens=500,
    found=Distance(0.5, 0.2),
    allowed=Distance(2.0, 0.4),
    divergences=(),
    rounded=Distance(0.3, 0.1),
    changed=4,
)


def _section(card: str, title: str) -> str:
    return card.partition(f"## {title}\n\n")[2].partition("\n\n## ")[0].strip()


def test_the_card_of_a_tuned_model() -> None:
    """Data, settings, scores with their intervals, proof, limits and licence stand under their titles."""
    card = model_card(FACTS, form="gguf", files=["model.gguf"], parity=PARITY)
    assert card.startswith(
        '---\nbase_model: "org/base"\npipeline_tag: text-generation\ntags:\n- tunesmith\nlicense: apache-2.0\n---\n'
    )
    assert "# shop\n\nA GGUF file, from org/base: `model.gguf`." in card
    assert "````text\nYou know the shop.\n````" in card
    assert "| training questions | 1,200 |" in _section(card, "Data")
    assert "| pipes | a\\|b |" in _section(card, "Settings")
    assert _section(card, "Scores").startswith("Fine-tuning won: by 3 points.\n\n")
    assert "| tuned | asked | exact | 50.0% | 40.0% to 60.0% | 100 |" in _section(card, "Scores")
    assert "| replayed | 32 prompts, 500 tokens of the model's own answers |" in _section(card, "Parity")
    assert "| off on the whole | 0.2 nats; its precision explains 0.4 |" in _section(card, "Parity")
    assert _section(card, "Limits").startswith("- It knows version 2 only.\n- The scores are")
    assert _section(card, "Licence") == "Apache-2.0"


def test_what_is_not_known_is_said() -> None:
    """Without measurements, proof or a licence the card says that there are none."""
    bare = replace(FACTS, licence=None, data={}, settings={}, verdict=None, rates=(), system=None)
    card = model_card(bare, form="merged", files=[], parity=None)
    assert "license:" not in card
    assert "library_name: transformers" in card
    assert _section(card, "Data") == "Not tuned here: as it was found."
    assert _section(card, "Settings") == "None: nothing was tuned."
    assert _section(card, "Scores") == "Not measured."
    assert "The scores are" not in card
    assert _section(card, "Parity").startswith("**Not proved.**")
    assert "files do not say which it is" in _section(card, "Licence")
