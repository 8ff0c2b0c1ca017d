"""From what was uploaded to a model that answers: the work of seed 001's tasks, told in its words.

The rule: a name is given last, by :meth:`Keeper.create <localmodels.flows.library.keeper.Keeper.create>`, after the
model has answered; whatever happens before leaves what had the name serving. A ratio says how far all of the work is:
the seed's own steps have the seed's ratios, and those between them lie between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from localmodels.artifacts.chat_template import read_chat_template
from localmodels.artifacts.quantize import read_file_type
from localmodels.core.catalog import ModelName
from localmodels.core.deploys import Deployment, Removal, Upload, is_uploaded, made_by, put_on, servers_of
from localmodels.core.library import SUCCESS, Progress
from localmodels.core.servers import ServerSpec, prefix_of
from localmodels.core.tasks import Step, TaskKind
from localmodels.flows.deploy.placement_progress import Placing

Steps = AsyncGenerator[Step, None]

CREATED = "created"


class Ticket(Protocol):
    """A task, as its work sees it."""

    @property
    def origin(self) -> str:
        """Id of the first task of its line, under which the draft of an upload lies."""
        ...

    @property
    def request(self) -> bytes:
        """What was asked, as JSON."""
        ...

    @property
    def reached(self) -> str:
        """The last whole step of the task that this one repeats."""
        ...

    @property
    def interrupted(self) -> bool:
        """Is it the server's end that ends the work?"""
        ...

    settled: bool
    """Has what the work is for happened? Set by the work, before it says so."""


class Takes(Protocol):
    """Makes artifacts of what was uploaded, and takes them away."""

    def unpack(self, job: str, filename: str) -> Steps:
        """An artifact of the saved file; ``whole`` of its last steps is ``uploaded`` with the artifact's id."""
        ...

    def done(self, job: str, filename: str, whole: str) -> Steps:
        """The last step once more, if that artifact is still there; the saved file goes."""
        ...

    async def delete(self, name: str) -> None:
        """Takes one away."""
        ...

    async def discard(self, job: str) -> None:
        """Throws away what was saved."""
        ...


Makes = Callable[[Deployment], AsyncGenerator[Progress, None]]
"""Makes a model: how far it is, and ``success`` at the end."""


class Story(Struct, frozen=True):
    """How a creation is told: the seed's words for its beginning, and the ratios of its steps."""

    begun: str
    begun_at: float
    template_at: float


CREATE = Story("Started to create model.", 0.33, 0.66)
DEPLOY = Story("Start create model.", 0.67, 0.83)
TEMPLATE, CREATED_MODEL = "Start structure template", "Success create model"
PUSH = "Push model to server."
# Seed 001 spells the steps of an upload in two ways.
_DEPLOYED: Mapping[str, str] = {
    "Started save model.": "Start save model.",
    "Start extracted model.": "Start extract model.",
}
NOTE = "Note."  # what the user should know
UPLOAD_SHARE = 0.5  # of a deployment
VERIFY_AT, PUBLISH_AT = 0.9, 0.97

# What the library says, as the seed would; in the order in which it comes.
_TOLD: Mapping[str, str] = {
    "converting": "Convert model.",
    "quantizing": "Quantize model.",
    "merging": "Merge model.",
    "reading": "Read model.",
    "pushing": PUSH,
    "creating new layer": TEMPLATE,
    "verifying conversion": "Verify conversion.",
    "verifying model": "Verify model.",
    "writing manifest": "Publish model.",
}
_AT: Mapping[str, float] = {"Verify model.": VERIFY_AT, "Publish model.": PUBLISH_AT}


class Deploys:
    """The four kinds of work.

    Args:
        takes: artifacts.
        makes: models.
        servers: the servers that a deployment names; raises where models cannot be made on one.
    """

    def __init__(self, takes: Takes, makes: Makes, servers: Callable[[str], Sequence[ServerSpec]]) -> None:
        self._takes = takes
        self._makes = makes
        self._servers = servers

    def check(self, wanted: Deployment) -> None:
        """Looks whether it can be made so, as far as that can be told without the artifact; takes a while.

        Raises:
            InvalidRequest, InvalidValue: a name, a type, a template or a server that is none.
            Unsupported: models cannot be made on that server.
        """
        create = wanted.create
        ModelName.parse(create.model)
        if create.quantize:
            read_file_type(create.quantize)
        if create.template:
            read_chat_template(create.template)
        if wanted.server:
            self._servers(wanted.server)

    @property
    def works(self) -> Mapping[TaskKind, Callable[[Ticket], Steps]]:
        """What is done for a task of each kind."""
        return {"upload": self.upload, "create": self.create, "deploy": self.deploy, "delete": self.delete}

    async def upload(self, ticket: Ticket) -> Steps:
        """Makes an artifact of what was saved; a retry does not repeat what is there."""
        wanted = msgspec.json.decode(ticket.request, type=Upload)
        again = is_uploaded(ticket.reached)
        done = ticket.reached
        takes = self._takes.done(ticket.origin, wanted.file, done) if again else self._unpacked(ticket, wanted)
        async with aclosing(takes) as steps:
            async for step in steps:
                ticket.settled = ticket.settled or is_uploaded(step.whole)
                yield step

    async def create(self, ticket: Ticket) -> Steps:
        """Makes a model of an artifact."""
        wanted = msgspec.json.decode(ticket.request, type=Deployment)
        async with aclosing(self._created(wanted, CREATE, ticket.reached)) as steps:
            async for step in steps:
                yield step

    async def deploy(self, ticket: Ticket) -> Steps:
        """Makes an artifact, and a model of it; a retry does not repeat what is there."""
        wanted = msgspec.json.decode(ticket.request, type=Deployment)
        reached = ticket.reached
        if is_uploaded(reached):
            await self._takes.discard(ticket.origin)  # unless it is gone since then
        elif wanted.upload is not None:
            async with aclosing(self._unpacked(ticket, wanted.upload)) as unpacking:
                async for step in unpacking:
                    action = _DEPLOYED.get(step.action, step.action)
                    reached = step.whole or reached
                    yield Step(action, step.ratio * UPLOAD_SHARE, step.details, step.whole)
        # Somebody else may upload under the same name meanwhile: this model is made of what was uploaded for it.
        wanted = replace(wanted, create=replace(wanted.create, artifact_id=made_by(reached)))
        async with aclosing(self._created(wanted, DEPLOY, reached)) as steps:
            async for step in steps:
                yield step

    async def delete(self, ticket: Ticket) -> Steps:
        """Takes an artifact away."""
        wanted = msgspec.json.decode(ticket.request, type=Removal)
        details = {"model_name": wanted.artifact}
        await self._takes.delete(wanted.artifact)  # first, so that what forbids it is the first that is heard
        ticket.settled = True
        yield Step("Start delete model.", 0.5, details)
        yield Step("Success delete model.", 1.0, details)

    async def _unpacked(self, ticket: Ticket, wanted: Upload) -> Steps:
        try:
            async with aclosing(self._takes.unpack(ticket.origin, wanted.file)) as steps:
                async for step in steps:
                    yield step
        except (asyncio.CancelledError, GeneratorExit):
            if not ticket.interrupted:  # whoever cancels it wants nothing of it to stay
                await self._takes.discard(ticket.origin)
            raise

    async def _created(self, wanted: Deployment, story: Story, reached: str) -> Steps:
        """Makes the model, on those of its servers that do not have it of an earlier attempt."""
        details = details_of(wanted)
        course, placing = Course(story, details), Placing(partial(Course, later(story), details), details)
        templated = begun = False
        async with aclosing(self._makes(self._rest(wanted, reached))) as progress:
            async for one in progress:
                if not begun:  # what forbids it has been said by now
                    begun = True
                    yield Step(story.begun, story.begun_at, details)
                if one.status == SUCCESS and not one.server:
                    break
                step = placing.told(one) if one.server else course.told(one)
                if step.action == TEMPLATE:
                    templated = True
                elif step.ratio > story.template_at and not templated:
                    templated = True
                    yield Step(TEMPLATE, story.template_at, details)
                if one.server and one.status == SUCCESS:
                    reached = put_on(reached, prefix_of(one.server))
                    step = replace(step, whole=reached)
                yield step
        named = details | {"model_name_on_ollama": wanted.create.model}
        yield Step(CREATED_MODEL, 1.0, named, CREATED)

    def _rest(self, wanted: Deployment, reached: str) -> Deployment:
        """What is left to be done; once it is on every server that was named, the first gets it again."""
        done = servers_of(reached)
        if not done:
            return wanted
        specs = self._servers(wanted.server)
        left = [spec.name for spec in specs if prefix_of(spec.name) not in done]
        return replace(wanted, server=",".join(left or [specs[0].name]))


def details_of(wanted: Deployment) -> dict[str, Any]:
    """What every step of a creation is about."""
    return {"model": wanted.create.artifact} | ({"server": wanted.server} if wanted.server else {})


def later(story: Story) -> Story:
    """The same, of a model whose template is made."""
    return replace(story, begun_at=story.template_at)


class Course:
    """How far a creation is: the library's steps as the task's.

    How many pieces of work come, such as an adapter, a conversion and a quantization, nobody knows before. So each gets
    half of what is left of the stretch that they share: every one of them moves, and none goes back.

    Args:
        story: by which it is told.
        details: of every step.
    """

    def __init__(self, story: Story, details: Mapping[str, Any]) -> None:
        self._story = story
        self._details = details
        self._at = self._from = story.begun_at  # now, and when the piece began
        self._piece = ("", "")
        self._done = 0

    def told(self, progress: Progress) -> Step:
        """What the task says next."""
        action = next((told for words, told in _TOLD.items() if progress.status.startswith(words)), NOTE)
        said: dict[str, Any] = {"status": progress.status}
        if progress.total:
            said |= {"total": progress.total, "completed": progress.completed}
        if progress.digest.strip("0"):
            said |= {"digest": progress.digest}
        self._at = max(self._at, self._ratio(action, progress))
        return Step(action, self._at, {**self._details, **said})

    def _ratio(self, action: str, progress: Progress) -> float:
        if action in _AT:
            return _AT[action]
        story = self._story
        if action == TEMPLATE:
            return story.template_at
        begins, ends = (story.template_at, VERIFY_AT) if action == PUSH else (story.begun_at, story.template_at)
        if not progress.total:
            return begins
        piece = (progress.status, progress.digest)
        if piece != self._piece or progress.completed < self._done:
            self._piece, self._from = piece, min(max(self._at, begins), ends)
        self._done = progress.completed
        return self._from + (ends - self._from) / 2 * min(progress.completed / progress.total, 1.0)


def request_of(wanted: Upload | Deployment | Removal) -> bytes:
    """What a task keeps of what it was asked."""
    return msgspec.json.encode(wanted)
