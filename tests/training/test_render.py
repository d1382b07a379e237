from itertools import groupby

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import TrainingError
from tunesmith.models.local import end_of_turn_ids, prompt_ids
from tunesmith.records import Conversation, Message
from tunesmith.training.render import Rendered, render

END = "<|im_end|>"


def chat(*contents: str, system: str | None = None) -> Conversation:
    """Return turns of user and assistant, after a system message if there is one."""
    first = () if system is None else (Message("system", system),)
    turns = (
        Message("assistant" if number % 2 else "user", content) for number, content in enumerate(contents)
    )
    return (*first, *turns)


def labelled(tokenizer: PreTrainedTokenizerFast, row: Rendered) -> list[str]:
    """Return what each stretch under the mask says."""
    pairs = groupby(zip(row.ids, row.mask, strict=True), key=lambda pair: pair[1])
    return [text(tokenizer, [token for token, _ in group]) for counted, group in pairs if counted]


def text(tokenizer: PreTrainedTokenizerFast, ids: list[int] | tuple[int, ...]) -> str:
    """Return exactly what ids say."""
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer with another chat template."""
    other = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<|im_start|>", eos_token=END, pad_token=END
    )
    other.chat_template = template
    return other


@given(
    contents=st.lists(st.text(max_size=30), min_size=2, max_size=6),
    system=st.none() | st.text(max_size=10),
)
@example(contents=["q", "\n\n  indented\n", "q", "\n", "  q\n", "  a  "], system=None)
@example(contents=["", ""], system="")
def test_the_mask_is_the_assistants_words_and_nothing_else(
    chat_tokenizer: PreTrainedTokenizerFast, contents: list[str], system: str | None
) -> None:
    """Whatever is said in however many turns, the labels decode to each answer and its end of turn."""
    assume("<|" not in "".join(contents))
    conversation = chat(*contents[: len(contents) // 2 * 2], system=system)
    row = render(chat_tokenizer, conversation)
    answers = [message.content + END for message in conversation if message.role == "assistant"]
    assert labelled(chat_tokenizer, row) == answers
    whole = chat_tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in conversation], tokenize=False
    )
    # The template's line break after the last end of turn is nobody's to learn.
    assert text(chat_tokenizer, row.ids) + "\n" == whole
    assert row.labelled == sum(row.mask)
    for turn, message in enumerate(conversation):
        if message.role == "assistant":
            prompt = prompt_ids(chat_tokenizer, conversation[:turn])
            assert row.ids[: len(prompt)] == prompt
            assert row.mask[len(prompt)]
            assert not row.mask[len(prompt) - 1]


def test_a_prompt_is_one_reading_of_its_text(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """Where no token runs over a border, the ids are those of the whole text read at once."""
    conversation = chat("where is the path", "found by this", "and the shortest", system="user")
    whole = (
        "<|im_start|>system\nuser<|im_end|>\n<|im_start|>user\nwhere is the path<|im_end|>\n"
        "<|im_start|>assistant\nfound by this<|im_end|>\n<|im_start|>user\nand the shortest<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    expected = chat_tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert prompt_ids(chat_tokenizer, conversation) == tuple(expected)


def test_a_tokenizer_that_marks_beginnings_marks_none_inside() -> None:
    """A tokenizer that puts a space before each text it reads puts none between a prompt and its answer."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE

    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.decoder = decoders.Metaspace(prepend_scheme="always")
    core.train_from_iterator(
        ["ask:yes"], trainers.BpeTrainer(vocab_size=8, special_tokens=[END], show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}"
        "{% if m.role == 'user' %}:{% else %}<|im_end|>{% endif %}{% endfor %}"
    )
    row = render(tokenizer, chat("ask", "yes"))
    assert list(row.ids) == tokenizer(f"ask:yes{END}", add_special_tokens=False)["input_ids"]
    assert labelled(tokenizer, row) == ["yes" + END]


def test_a_template_that_rewrites_history_is_refused(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """A template that drops earlier answers is good for one turn, and an error for two; asking goes on."""
    tokenizer = with_template(
        chat_tokenizer,
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'user' or loop.last %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    assert labelled(tokenizer, render(tokenizer, chat("q", "a"))) == ["a" + END]
    with pytest.raises(TrainingError, match="renders a conversation's beginning differently"):
        render(tokenizer, chat("q", "a", "q", "b", "q", "c"))
    kept = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    said = text(tokenizer, prompt_ids(tokenizer, chat("q", "a", "q")))
    assert said == f"{kept}{END}\n{kept}"


def test_a_template_that_moves_the_beginning_is_refused(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """A template that counts the turns at the top changes every prompt once the conversation goes on."""
    tokenizer = with_template(chat_tokenizer, "{{ messages | length }}" + str(chat_tokenizer.chat_template))
    with pytest.raises(TrainingError, match="renders a conversation's beginning differently"):
        render(tokenizer, chat("q", "a"))


def test_a_last_mark_of_the_whole_conversation_is_not_an_end_of_turn(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Where turns end with a token of their own and only the last is followed by eos, each ends with its own."""
    tokenizer = with_template(
        chat_tokenizer,
        "{% for m in messages %}{{ m.role }}\n{{ m.content }}<|im_start|>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant\n{% else %}<|im_end|>{% endif %}",
    )
    assert end_of_turn_ids(tokenizer) == {0, 1}
    row = render(tokenizer, chat("q", "a", "q", "b"))
    assert labelled(tokenizer, row) == ["a<|im_start|>", "b<|im_start|>"]


def test_a_template_without_an_end_of_turn_is_refused(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """A model trained on such rows would never stop."""
    tokenizer = with_template(
        chat_tokenizer, "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    )
    with pytest.raises(TrainingError, match="writes no end-of-turn token"):
        render(tokenizer, chat("q", "a"))


@pytest.mark.parametrize(
    ("conversation", "why"),
    [
        ((), "without an assistant turn"),
        (chat("q"), "without an assistant turn"),
        (chat("q", "a", "q"), "goes from user to user"),
        (chat("q", "a", "q", "a")[1:], "goes from assistant to assistant"),
        (chat("q", f"stop {END} go"), r"hold the end-of-turn token <\|im_end\|>: 'stop"),
    ],
)
def test_what_teaches_nothing_or_nonsense_is_refused(
    chat_tokenizer: PreTrainedTokenizerFast, conversation: Conversation, why: str
) -> None:
    """Each with its reason, instead of a row that is quietly cut."""
    with pytest.raises(TrainingError, match=why):
        render(chat_tokenizer, conversation)
