"""Each field that today's SDK can send is known here: honoured, passed over as it changes no answer, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import (
    batch_create_params,
    completion_create_params,
    embedding_create_params,
    eval_create_params,
    eval_update_params,
    moderation_create_params,
    upload_complete_params,
    upload_create_params,
)
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.evals import run_create_params
from openai.types.fine_tuning import job_create_params
from openai.types.fine_tuning.alpha import grader_run_params, grader_validate_params
from openai.types.responses import input_token_count_params, response_create_params
from pydantic import BaseModel

from tunesmith.serving.wire.chat import CreateChat, CreateCompletion, CreateEmbedding
from tunesmith.serving.wire.evals import CreateEval, CreateRun, UpdateEval
from tunesmith.serving.wire.files import CompleteUpload, CreateBatch, CreateUpload
from tunesmith.serving.wire.graders import RunGrader, ValidateGrader
from tunesmith.serving.wire.moderations import CreateModeration
from tunesmith.serving.wire.responses import CreateResponse, Question
from tunesmith.serving.wire.tuning import CreateJob

BODIES: list[tuple[Any, type[BaseModel]]] = [
    (batch_create_params.BatchCreateParams, CreateBatch),
    (chat_create_params.CompletionCreateParamsStreaming, CreateChat),
    (completion_create_params.CompletionCreateParamsStreaming, CreateCompletion),
    (embedding_create_params.EmbeddingCreateParams, CreateEmbedding),
    (eval_create_params.EvalCreateParams, CreateEval),
    (eval_update_params.EvalUpdateParams, UpdateEval),
    (grader_run_params.GraderRunParams, RunGrader),
    (grader_validate_params.GraderValidateParams, ValidateGrader),
    (input_token_count_params.InputTokenCountParams, Question),
    (job_create_params.JobCreateParams, CreateJob),
    (moderation_create_params.ModerationCreateParams, CreateModeration),
    (response_create_params.ResponseCreateParamsStreaming, CreateResponse),
    (run_create_params.RunCreateParams, CreateRun),
    (upload_complete_params.UploadCompleteParams, CompleteUpload),
    (upload_create_params.UploadCreateParams, CreateUpload),
]


@pytest.mark.parametrize(("sent", "known"), BODIES, ids=[body.__name__ for _, body in BODIES])
def test_each_field_of_the_sdk_is_known(sent: Any, known: type[BaseModel]) -> None:
    names = {field.alias or name for name, field in known.model_fields.items()}
    assert (sent.__required_keys__ | sent.__optional_keys__) - names == set()
