"""What creates a fine-tuning job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tunesmith.serving.wire.base import Body, Metadata, Name, refused

Auto = Literal["auto"]
Epochs = Annotated[int, Field(ge=1, le=50)] | Auto
BatchSize = Annotated[int, Field(ge=1, le=256)] | Auto
Multiplier = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | Auto
Beta = Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] | Auto


class Hyperparameters(Body):
    """How to train; "auto" is resolved when the file has been read."""

    n_epochs: Epochs = "auto"
    batch_size: BatchSize = "auto"
    learning_rate_multiplier: Multiplier = "auto"


class DpoHyperparameters(Hyperparameters):
    """The same, and how dearly the model pays for leaving where it began."""

    beta: Beta = "auto"


class Supervised(Body):
    """Learn the answers of chats."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Dpo(Body):
    """Learn preferences."""

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


_NO_INTEGRATIONS = "integrations are not served here; a job's events and step_metrics.csv hold its metrics"
_NO_REINFORCEMENT = "reinforcement is not trained here: use 'supervised' or 'dpo'"


class Method(Body):
    """What is learned."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Annotated[Any, refused(_NO_REINFORCEMENT)] = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Method:
        if self.type == "reinforcement":
            raise ValueError(_NO_REINFORCEMENT)
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise ValueError(f"type is '{self.type}', and settings of '{other}' are given")
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The settings of the kind that is trained."""
        if self.type == "dpo":
            return (self.dpo or Dpo()).hyperparameters
        return (self.supervised or Supervised()).hyperparameters


class CreateJob(Body):
    """A job: the base model, its files, and how it is tuned."""

    model: Name
    training_file: Name
    validation_file: Name | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: Metadata | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    integrations: Annotated[list[Any] | None, refused(_NO_INTEGRATIONS)] = None

    @model_validator(mode="after")
    def _said_once(self) -> CreateJob:
        if self.hyperparameters is not None and self.method is not None:
            old = self.hyperparameters.model_dump()
            new = self.method.hyperparameters.model_dump()
            if any(old[key] not in ("auto", new[key]) for key in old):
                raise ValueError(
                    "'hyperparameters' and 'method' say different things: leave 'hyperparameters' out"
                )
        return self

    @property
    def trained_as(self) -> Method:
        """The method, also where only the old `hyperparameters` are given."""
        if self.method is not None:
            return self.method
        return Method(
            type="supervised",
            supervised=Supervised(hyperparameters=self.hyperparameters or Hyperparameters()),
        )
