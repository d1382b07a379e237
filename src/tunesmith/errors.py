"""Every error a user can meet, as one tree, each with the way out.

TunesmithError
├── UsageError            wrong command, address or setting: exit code 2
│   ├── ConfigError         a key or value in tunesmith.toml
│   ├── AddressError        a model or source address that means nothing
│   └── MissingExtra        an optional part that is not installed
├── SourceError           material that cannot be read
├── DatasetError          examples that cannot be used
│   └── LeakError           test questions that stand in the training set
├── ModelError            a model that cannot be found, fetched or asked
│   ├── ModelBusy           a service that may be asked again later
│   ├── ModelRefused        a model that will not answer this one question
│   ├── FetchError          a download that failed or whose bytes are wrong
│   └── ParityError         an export that does not say what the model says
├── TrainingError         a training run that would make, or made, nonsense
│   ├── RowError            a row that would teach nothing, or something else
│   └── TrainingStopped     a run that was told to stop, and can go on
├── ArtifactError         finished work that is not as it was left
│   └── DamagedArtifact     a file whose bytes changed
├── ServerError           a server that cannot start, or cannot do what it is asked
│   ├── ServerBusy          another server works in this folder
│   └── StoreError          its database cannot be opened, is locked or is of a newer version
│       └── StoreDamaged      its database is not sound
├── ProjectBusy           another process works on this project
└── DiskFull              no room to write
"""

from __future__ import annotations


class TunesmithError(Exception):
    """An error with a rule that was broken and a way out; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class UsageError(TunesmithError):
    """The command, an address or a setting is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A key or a value in tunesmith.toml is not as it should be."""


class AddressError(UsageError):
    """A model or source address that means nothing."""


class MissingExtra(UsageError):
    """An optional part is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed.",
            hint=f"Install it: pip install 'tunesmith[{extra}]'",
        )


class SourceError(TunesmithError):
    """Material cannot be read."""


class DatasetError(TunesmithError):
    """The examples cannot be used."""


class LeakError(DatasetError):
    """A test question stands in the training set."""


class ModelError(TunesmithError):
    """A model cannot be found, loaded or asked."""


class ModelBusy(ModelError):
    """A service is asked too much, or has failed for now; `retry_after` is how many seconds it wants to be left."""

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ModelRefused(ModelError):
    """A model will not answer this question, and may answer others."""


class FetchError(ModelError):
    """A download failed, or its bytes are not the expected ones."""


class ParityError(ModelError):
    """An export, in the engine that serves it, says something else than the model that it was made from."""


class TrainingError(TunesmithError):
    """A training run would make, or made, nonsense."""


class RowError(TrainingError):
    """A row would teach nothing, or something else than it says; `rule` names in a word what it breaks."""

    def __init__(self, message: str, *, rule: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.rule = rule


class TrainingStopped(TrainingError):
    """A run was told to stop; its checkpoint is whole."""


class ArtifactError(TunesmithError):
    """Finished work is not as it was left."""


class DamagedArtifact(ArtifactError):
    """A file of a finished artefact has other bytes than its manifest says."""


class ProjectBusy(TunesmithError):
    """Another process works on this project."""


class ServerError(TunesmithError):
    """A server cannot start, or cannot do what it is asked."""


class ServerBusy(ServerError):
    """Another server works in this folder."""


class StoreError(ServerError):
    """The server's database cannot be opened, is held by another process, or is of a newer version."""


class StoreDamaged(StoreError):
    """The server's database is not sound; it is left as it is."""


class DiskFull(TunesmithError):
    """There is no room to write; nothing half-written is kept as whole."""
