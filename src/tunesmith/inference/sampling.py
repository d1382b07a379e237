"""Pick the next token of each row: likeliest or drawn, with OpenAI's settings and each row's own randomness."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from tunesmith.inference.requests import Request, TokenLogprob

# Below it the likeliest token is drawn in any case, and a division by it would leave the numbers that there are.
COLDEST = 1e-5


class Sampler:
    """The picks of one answer."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.counts: Counter[int] = Counter()
        self._generator = torch.Generator()
        if request.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(request.seed)

    def shape(self, logits_V: Tensor) -> None:
        """Change a row's logits as the request and its grammar say, in place.

        The penalties are OpenAI's: a token's logit loses `frequency_penalty` for each time that it was said, and
        `presence_penalty` once.
        """
        request = self.request
        for token, bias in request.logit_bias.items():
            if token < len(logits_V):
                logits_V[token] += bias
        if (request.presence_penalty or request.frequency_penalty) and self.counts:
            said = torch.tensor(list(self.counts), device=logits_V.device)
            often = torch.tensor(list(self.counts.values()), device=logits_V.device, dtype=logits_V.dtype)
            logits_V[said] -= often * request.frequency_penalty + request.presence_penalty
        if request.grammar is not None:
            request.grammar.allow(logits_V)

    def pick(self, logits_V: Tensor) -> int:
        """Return the next token, drawn by temperature and top_p (nucleus sampling, arXiv:1904.09751)."""
        request = self.request
        if request.temperature < COLDEST:
            return int(logits_V.argmax())
        logits_V = logits_V.float()
        shares_V = torch.softmax((logits_V - logits_V.max()) / request.temperature, -1).cpu()
        if request.top_p < 1:
            sorted_V, order_V = shares_V.sort(descending=True)
            # The smallest set that holds top_p: the token that reaches it is in, and the likeliest always is.
            sorted_V[1:][(sorted_V.cumsum(-1) - sorted_V)[1:] >= request.top_p] = 0
            place = int(torch.multinomial(sorted_V, 1, generator=self._generator))
            return int(order_V[place])
        return int(torch.multinomial(shares_V, 1, generator=self._generator))


def logprob_of(logits_V: Tensor, token: int, alternatives: int) -> TokenLogprob:
    """Return a token's log-probability, and those of the likeliest tokens."""
    logprobs_V = torch.log_softmax(logits_V.float(), -1)
    top: tuple[tuple[int, float], ...] = ()
    if alternatives:
        values, places = logprobs_V.topk(min(alternatives, len(logprobs_V)))
        top = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return TokenLogprob(token, float(logprobs_V[token]), top)
