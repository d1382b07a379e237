"""Moderations: how likely texts are harmful, by OpenAI's categories, from a text classifier that the server was given.

A category that the classifier has no label for is told with the score 0 and with no input type that it applied to,
which is the API's own word for "not judged".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from tunesmith.inference.compute import computed
from tunesmith.serving import proxy
from tunesmith.serving.answers import as_json
from tunesmith.serving.errors import ApiError, invalid
from tunesmith.serving.ids import new_id
from tunesmith.serving.roster import Remote
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Asker, Server
from tunesmith.serving.wire.moderations import CreateModeration

router = api_router("/v1/moderations", "moderations")

CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
# From this probability on a text is flagged.
FLAGGED: Final = 0.5

# What other label sets call them: Jigsaw's (toxic-bert and its kin), and KoalaAI/Text-Moderation's letters.
_ALSO: Final[Mapping[str, str]] = {
    "toxic": "harassment", "toxicity": "harassment", "severe_toxic": "harassment", "severe_toxicity": "harassment",
    "obscene": "harassment", "insult": "harassment", "threat": "harassment/threatening",
    "identity_hate": "hate", "identity_attack": "hate", "sexual_explicit": "sexual",
    "s": "sexual", "h": "hate", "v": "violence", "hr": "harassment", "sh": "self-harm", "s3": "sexual/minors",
    "h2": "hate/threatening", "v2": "violence/graphic",
}  # fmt: skip


@router.post("")
async def create(request: Request, server: Server, caller: Asker, body: CreateModeration) -> Response:
    """Judge texts."""
    try:
        model = await anyio.to_thread.run_sync(server.roster.classifier, caller.organisation, body.model)
    except ApiError as error:
        if error.status != 404:
            raise
        raise ApiError(
            404,
            f"{error.message} Start the server with --model {body.model}=ADDRESS, the address of a text classifier.",
            param="model",
            code=error.code,
            kind=error.kind,
        ) from error
    if isinstance(model, Remote):
        return await proxy.forward(request, model, "/moderations", body.model)
    categories = categories_of(model.labels)
    if not any(categories):
        raise invalid(
            f"The labels of '{body.model}' ({', '.join(model.labels[:8])}) are none of the categories: "
            f"{', '.join(CATEGORIES)}.",
            param="model",
        )
    # One text at a time: chats go on between them.
    results = []
    for text in body.texts:
        [scores] = await anyio.to_thread.run_sync(computed, partial(model.scores, [text]))
        results.append(_judged(categories, [float(score) for score in scores]))
    return as_json({"id": new_id("modr-"), "model": body.model, "results": results})


def categories_of(labels: Sequence[str]) -> list[str | None]:
    """Return the category that each label of a classifier means, None for a label such as OK that means none."""
    known = {category.replace("-", "_"): category for category in CATEGORIES}
    found = []
    for label in labels:
        name = label.strip().lower().replace("-", "_").replace(" ", "_")
        found.append(known.get(name) or known.get(name.replace("_", "/", 1)) or _ALSO.get(name))
    return found


def _judged(categories: Sequence[str | None], scores: Sequence[float]) -> dict[str, Any]:
    highest = {
        category: max(
            (score for name, score in zip(categories, scores, strict=True) if name == category), default=0.0
        )
        for category in CATEGORIES
    }
    return {
        "flagged": any(score >= FLAGGED for score in highest.values()),
        "categories": {category: score >= FLAGGED for category, score in highest.items()},
        "category_scores": highest,
        "category_applied_input_types": {
            category: ["text"] if category in categories else [] for category in CATEGORIES
        },
    }
