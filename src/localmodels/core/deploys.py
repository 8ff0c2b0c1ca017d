"""What is asked of artifacts: take one, make a model of one, take one away."""

from __future__ import annotations

from msgspec import Struct

from localmodels.core.library import CreateRequest

UPLOADED = "uploaded"
ON = "on:"


def uploaded_as(artifact: str) -> str:
    """What a task has reached when there is the artifact with this id."""
    return f"{UPLOADED}:{artifact}"


def is_uploaded(reached: str) -> bool:
    """Has a task that reached this made its artifact?"""
    return reached.partition(" ")[0].partition(":")[0] == UPLOADED


def made_by(reached: str) -> str:
    """Id of the artifact that a task has made by then; empty if it has made none, or did not know its id."""
    return reached.partition(" ")[0].partition(":")[2] if is_uploaded(reached) else ""


def put_on(reached: str, server: str) -> str:
    """What a task has reached when the model is on this server as well; its name holds no space (``prefix_of``)."""
    return f"{reached} {ON}{server}".lstrip()


def servers_of(reached: str) -> frozenset[str]:
    """The servers on which a task that reached this has put its model."""
    return frozenset(word.removeprefix(ON) for word in reached.split(" ") if word.startswith(ON))


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
        server: id or name of the server on which it is made, several with commas between, ``*`` for every one; empty
            for this one.
        upload: what becomes the artifact first; None where it is there already.
    """

    create: CreateRequest
    server: str = ""
    upload: Upload | None = None


class Removal(Struct, frozen=True):
    """Take an artifact away."""

    artifact: str
