"""What is asked of artifacts: take one, make a model of one, take one away."""

from __future__ import annotations

from msgspec import Struct

from localmodels.core.library import CreateRequest


class Upload(Struct, frozen=True):
    """Take in what was uploaded; it lies in the draft of the task that does so.

    Attributes:
        file: its name, as its sender has it.
    """

    file: str


class Deployment(Struct, frozen=True):
    """Make a model of an artifact.

    Attributes:
        create: the model; ``create.artifact`` says of what.
        server: name of the server on which it is made; empty for this one.
        upload: what becomes the artifact first; None where it is there already.
    """

    create: CreateRequest
    server: str = ""
    upload: Upload | None = None


class Removal(Struct, frozen=True):
    """Take an artifact away."""

    artifact: str
