"""A batch of likelihoods is what each row alone would be told, whatever it shares with others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunesmith.models.likelihood import Likelihood
from tunesmith.models.local import load_model, load_tokenizer, prompt_ids, text_ids
from tunesmith.records import Conversation, Message

SYSTEM = Message("system", "You find functions in a package for graphs, and answer with one of them.")
PROMPTS: list[Conversation] = [
    (SYSTEM, Message("user", "where is the node?")),
    (SYSTEM, Message("user", "count each tree in the soup, and find the flow of a cycle!")),
    (Message("user", "find the edge"),),
]


@pytest.fixture(params=["smollm2", "cerebras-gpt", "mistral", "mpt"])
def likelihood(request: pytest.FixtureRequest, family_folder: Callable[[str], Path]) -> Likelihood:
    """Return a tiny model of a family: rotary, learned and ALiBi positions, and windows."""
    folder = family_folder(request.param)
    return Likelihood(load_model(folder, dtype=torch.float32), load_tokenizer(folder))


def test_a_batch_says_what_each_row_alone_would(likelihood: Likelihood) -> None:
    """Prompts of different lengths, answers that share beginnings, and plain texts, in one call and one by one."""
    prompts: list[Conversation | str] = [*PROMPTS, PROMPTS[0], PROMPTS[0], "", "the edge of"]
    answers = [
        "near the edge",
        "a tree",
        "it is found",
        "near the flow",
        "near",
        "the shortest path",
        " a cycle",
    ]

    together = likelihood.told(prompts, answers)
    alone = [likelihood.told([prompt], [answer])[0] for prompt, answer in zip(prompts, answers, strict=True)]

    for one, other in zip(together, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-4)
        assert one.likeliest == other.likeliest


def test_many_endings_of_one_prompt_are_read_once(likelihood: Likelihood) -> None:
    """Of a thousand numbers after one prompt each has the likelihood that it has alone."""
    begun = (*PROMPTS[1], Message("assistant", "the number is"))
    numbers = [f" {number:03d}" for number in range(300)]

    together = likelihood.told([begun] * len(numbers), numbers)

    for number in (0, 7, 299):
        [alone] = likelihood.told([begun], [numbers[number]])
        assert together[number].logprobs == pytest.approx(alone.logprobs, abs=2e-4)


def test_a_token_is_told_as_the_model_itself_has_it(family_folder: Callable[[str], Path]) -> None:
    """Each token's log probability, and whether it was the likeliest, are those of one plain pass."""
    folder = family_folder("smollm2")
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    before, said = prompt_ids(tokenizer, PROMPTS[1]), text_ids(tokenizer, "a tree is in the soup")
    with torch.inference_mode():
        logits = model(torch.tensor([[*before, *said]])).logits[0, len(before) - 1 : -1].log_softmax(-1)

    [told] = Likelihood(model, tokenizer).told([PROMPTS[1]], ["a tree is in the soup"])

    assert told.logprobs == pytest.approx([float(logits[i, token]) for i, token in enumerate(said)], abs=2e-4)
    assert told.likeliest == tuple(int(logits[i].argmax()) == token for i, token in enumerate(said))


def test_the_mean_is_that_of_the_tokens(family_folder: Callable[[str], Path]) -> None:
    """`means` and `told` agree on a conversation."""
    folder = family_folder("smollm2")
    likelihood = Likelihood(load_model(folder, dtype=torch.float32), load_tokenizer(folder))

    [told] = likelihood.told([PROMPTS[1]], ["a tree in the soup"])
    [mean] = likelihood.means([PROMPTS[1]], ["a tree in the soup"])

    assert told.total / len(told.logprobs) == pytest.approx(mean, abs=1e-4)


def test_an_empty_answer_has_no_tokens(family_folder: Callable[[str], Path]) -> None:
    """Nothing said is as likely as can be, and there is no token to tell of."""
    folder = family_folder("smollm2")
    likelihood = Likelihood(load_model(folder, dtype=torch.float32), load_tokenizer(folder))

    [told] = likelihood.told([PROMPTS[0]], [""])

    assert (told.logprobs, told.likeliest, told.total) == ((), (), 0)


def test_a_row_that_is_too_long_loses_its_beginning(family_folder: Callable[[str], Path]) -> None:
    """The answer stays whole, at the end of what the model reads."""
    folder = family_folder("smollm2")
    model = load_model(folder, dtype=torch.float32)
    likelihood = Likelihood(model, load_tokenizer(folder))
    long = (Message("user", "the node and the edge " * model.config.max_position_embeddings),)

    [told] = likelihood.told([long], ["a tree"])

    assert len(told.logprobs) == len(likelihood.told([PROMPTS[0]], ["a tree"])[0].logprobs)
