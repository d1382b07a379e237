"""Embeddings: texts as vectors of length one."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from tunesmith.inference.compute import computed
from tunesmith.serving import proxy
from tunesmith.serving.answers import as_json
from tunesmith.serving.errors import invalid
from tunesmith.serving.roster import Remote
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Asker, Server
from tunesmith.serving.wire.chat import CreateEmbedding

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from tunesmith.models.embedding import LocalEncoder

_AT_ONCE = 32

router = api_router("/v1/embeddings", "embeddings")


@router.post("")
async def create(request: Request, server: Server, caller: Asker, body: CreateEmbedding) -> Response:
    """Embed texts; each is read up to as many tokens as the server was told, and no more."""
    encoder = await anyio.to_thread.run_sync(server.roster.encoder, caller.organisation, body.model)
    if isinstance(encoder, Remote):
        return await proxy.forward(request, encoder, "/embeddings", body.model)
    texts = [body.input] if isinstance(body.input, str) else [str(text) for text in body.input]
    vectors, tokens = await anyio.to_thread.run_sync(_embedded, encoder, texts)
    if body.dimensions is not None:
        vectors = _shorter(vectors, body.dimensions)
    # The SDK asks for base64 by itself: float32, little-endian.
    as_text = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": number, "embedding": _coded(vector) if as_text else vector.tolist()}
        for number, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": tokens, "total_tokens": tokens}
    return as_json({"object": "list", "data": data, "model": body.model, "usage": used})


def _embedded(encoder: LocalEncoder, texts: list[str]) -> tuple[NDArray[float32], int]:
    import numpy as np

    counts: Any = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_length)["input_ids"]
    # Some at a time: chats go on between them.
    parts = [
        computed(partial(encoder.embed, texts[start : start + _AT_ONCE]))
        for start in range(0, len(texts), _AT_ONCE)
    ]
    return np.concatenate(parts), sum(map(len, counts))


def _shorter(vectors: NDArray[float32], dimensions: int) -> NDArray[float32]:
    """Return the first dimensions, of length one again; only models trained for it keep their quality (Matryoshka)."""
    import numpy as np

    if dimensions > vectors.shape[1]:
        raise invalid(f"The model has {vectors.shape[1]} dimensions.", param="dimensions")
    cut = vectors[:, :dimensions]
    shorter: NDArray[float32] = cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
    return shorter


def _coded(vector: NDArray[float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
