"""The work of seed 001's tasks: how it is told, what a retry repeats, and what is left by whoever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

import pytest
from msgspec import Struct
from tests.awaited import awaited
from tests.tasks_at_work import ended, heard, unhurried

from localmodels.core.deploys import (
    Deployment,
    Removal,
    Upload,
    is_uploaded,
    made_by,
    put_on,
    servers_of,
    uploaded_as,
)
from localmodels.core.errors import (
    BackendError,
    Conflict,
    InvalidRequest,
    InvalidValue,
    LocalModelsError,
    ModelDamaged,
    Unsupported,
)
from localmodels.core.library import SUCCESS, CreateRequest, Progress
from localmodels.core.servers import ServerSpec
from localmodels.core.tasks import Event, Step, Task
from localmodels.flows.concurrency.threads import heard_out
from localmodels.flows.deploy.deploys import (
    CREATE,
    DEPLOY,
    TEMPLATE,
    VERIFY_AT,
    Course,
    Deploys,
    Steps,
    Story,
    request_of,
)
from localmodels.flows.library.quantization import NO_DIGEST
from localmodels.flows.tasks.tasks import Tasks
from localmodels.state.memory import MemoryTasks

UPLOADED = uploaded_as("7f")
LAST = Step("Success upload model file.", 1.0, {"model": "a.zip"}, UPLOADED)
UNPACKED = (
    Step("Started save model.", 0.0, {"model": "a.zip"}, "saved"),
    Step("Start extracted model.", 0.66, {"model": "a.zip"}),
    Step("Extract model.", 0.7, {"model": "a.zip"}),
    LAST,
)
MADE = (
    Progress("reading model metadata"),
    Progress("converting model", "sha256:" + "0" * 64, 100, 50),
    Progress("creating new layer sha256:12"),
    Progress("creating new layer sha256:34"),
    Progress("verifying model"),
    Progress("writing manifest"),
    Progress(SUCCESS),
)
WANTED = Deployment(CreateRequest("mine", artifact="a"), upload=Upload("a.zip"))
MEANT = Deployment(CreateRequest("mine", artifact="a", artifact_id="7f"), upload=Upload("a.zip"))


class Takes:
    """Artifacts that come as they are told to, step by step."""

    def __init__(self, steps: Sequence[Step | LocalModelsError] = UNPACKED) -> None:
        self.steps = steps
        self.unpacked: list[tuple[str, str]] = []
        self.found: list[tuple[str, str, str]] = []
        self.deleted: list[str] = []
        self.discarded: list[str] = []
        self.fails: LocalModelsError | None = None

    async def unpack(self, job: str, filename: str) -> Steps:
        self.unpacked.append((job, filename))
        for step in self.steps:
            if isinstance(step, LocalModelsError):
                raise step
            yield step

    async def done(self, job: str, filename: str, whole: str) -> Steps:
        self.found.append((job, filename, whole))
        yield LAST

    async def delete(self, name: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.deleted.append(name)

    async def discard(self, job: str) -> None:
        self.discarded.append(job)


class Slow:
    """A removal in a thread, which nothing stops."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, name: str) -> None:
        self.begun.set()
        await heard_out(asyncio.ensure_future(self.may_end.wait()))


class Makes:
    """Models that are made as they are told to be."""

    def __init__(self, *steps: Progress | LocalModelsError) -> None:
        self.steps = steps or MADE
        self.made: list[Deployment] = []

    async def __call__(self, wanted: Deployment) -> AsyncGenerator[Progress, None]:
        self.made.append(wanted)
        for step in self.steps:
            if isinstance(step, LocalModelsError):
                raise step
            yield step


class Ticket(Struct):
    """A task, as its work sees it."""

    request: bytes = request_of(WANTED)
    origin: str = "first"
    reached: str = ""
    interrupted: bool = False
    settled: bool = False


def named(servers: str) -> Sequence[ServerSpec]:
    """As if there were servers of all names; ``*`` is three of them."""
    names = ["a", "b", "c"] if servers == "*" else servers.split(",")
    return [ServerSpec(name=name, url="", kind="ollama") for name in names]


def deploys(
    takes: Takes | None = None, makes: Makes | None = None, servers: Callable[[str], Sequence[ServerSpec]] = named
) -> Deploys:
    return Deploys(takes or Takes(), makes or Makes(), servers)


async def said(steps: Steps) -> list[Step]:
    async with aclosing(steps):
        return [step async for step in steps]


def short(steps: Sequence[Step]) -> list[tuple[str, float]]:
    return [(step.action, round(step.ratio, 9)) for step in steps]


# How it is told


@awaited
async def test_a_deployment_is_told_in_the_seed_s_words_and_ratios() -> None:
    takes, makes = Takes(), Makes()
    steps = await said(deploys(takes, makes).deploy(Ticket()))
    assert short(steps) == [
        ("Start save model.", 0.0),
        ("Start extract model.", 0.33),
        ("Extract model.", 0.35),
        ("Success upload model file.", 0.5),
        ("Start create model.", 0.67),
        ("Read model.", 0.67),
        ("Convert model.", 0.71),
        (TEMPLATE, 0.83),
        (TEMPLATE, 0.83),
        ("Verify model.", 0.9),
        ("Publish model.", 0.97),
        ("Success create model", 1.0),
    ]
    assert [step.whole for step in steps if step.whole] == ["saved", UPLOADED, "created"]
    assert steps[-1].details["model_name_on_ollama"] == "mine"
    assert (takes.unpacked, makes.made) == ([("first", "a.zip")], [MEANT])


@awaited
async def test_an_upload_and_a_creation_are_told_in_theirs() -> None:
    here = deploys()
    assert await said(here.upload(Ticket(request_of(Upload("a.zip"))))) == list(UNPACKED)
    steps = short(await said(here.create(Ticket())))
    assert [one for one in steps if one[0] in {"Started to create model.", "Success create model"}] == [
        ("Started to create model.", 0.33),
        ("Success create model", 1.0),
    ]
    assert (TEMPLATE, 0.66) in steps


@awaited
@pytest.mark.parametrize("made", [(Progress("verifying model"), Progress(SUCCESS)), (Progress("writing manifest"),)])
async def test_the_template_has_its_step_where_nothing_new_is_made(made: tuple[Progress, ...]) -> None:
    steps = short(await said(deploys(makes=Makes(*made)).create(Ticket())))
    assert steps[:2] == [("Started to create model.", 0.33), (TEMPLATE, 0.66)]
    assert [action for action, _ in steps].count(TEMPLATE) == 1


@awaited
async def test_what_forbids_a_work_is_the_first_that_is_heard() -> None:
    takes = Takes()
    takes.fails = Conflict("in use")
    here = deploys(takes, Makes(InvalidRequest("no such artifact")))
    for steps, error in (
        (here.create(Ticket()), InvalidRequest),
        (here.delete(Ticket(request_of(Removal("a")))), Conflict),
    ):
        with pytest.raises(error):
            await anext(steps)


@awaited
async def test_an_artifact_is_gone_before_anything_is_said_of_it() -> None:
    takes = Takes()
    steps = deploys(takes).delete(Ticket(request_of(Removal("a"))))
    first = await anext(steps)
    assert (takes.deleted, first.action, first.ratio) == (["a"], "Start delete model.", 0.5)
    [last] = await said(steps)
    assert (last.action, last.ratio, last.details) == ("Success delete model.", 1.0, {"model_name": "a"})


@awaited
async def test_who_cancels_a_removal_that_has_happened_comes_too_late() -> None:
    takes = Takes()
    going = Slow()
    takes.delete = going  # type: ignore[method-assign]
    tasks = Tasks(MemoryTasks(), deploys(takes).works, pause=unhurried)
    task = await tasks.start("delete", "a", request_of(Removal("a")))
    await going.begun.wait()
    cancelling = asyncio.create_task(tasks.cancel(task.id))
    await asyncio.sleep(0)
    going.may_end.set()
    assert (await cancelling).state == "succeeded"
    assert [event.action for event in await heard(tasks, task.id)] == ["Start delete model.", "Success delete model."]


DETAILS = {"model": "a"}


@pytest.mark.parametrize("story", [CREATE, DEPLOY])
@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("reading model metadata", "Read model."),
        ("converting model", "Convert model."),
        ("converting adapter", "Convert model."),
        ("quantizing F32 model to Q8_0", "Quantize model."),
        ("merging adapter", "Merge model."),
        ("creating new layer sha256:ab", TEMPLATE),
        ("pushing model to far: reading", "Push model to server."),
        ("verifying conversion", "Verify conversion."),
        ("verifying model", "Verify model."),
        ("writing manifest", "Publish model."),
        ("the tokenizer has no end", "Note."),
    ],
)
def test_each_step_lies_between_the_seed_s(story: Story, status: str, action: str) -> None:
    course = Course(story, DETAILS)
    begins = course.told(Progress(status))
    whole = course.told(Progress(status, "sha256:ab", 10, 10))
    over = course.told(Progress(status, "sha256:ab", 10, 99))
    assert begins.action == whole.action == action
    assert story.begun_at <= begins.ratio <= whole.ratio == over.ratio < 1.0
    assert begins.details == {"model": "a", "status": status}
    assert whole.details == {**begins.details, "total": 10, "completed": 10, "digest": "sha256:ab"}
    assert "digest" not in course.told(Progress(status, NO_DIGEST, 1)).details


def test_a_push_comes_after_what_was_made_here() -> None:
    half = Course(CREATE, DETAILS).told(Progress("pushing model to far", "", 10, 5))
    assert CREATE.template_at < half.ratio < VERIFY_AT


@pytest.mark.parametrize("story", [CREATE, DEPLOY])
def test_every_piece_of_work_moves_the_ratio_whatever_comes_before_it(story: Story) -> None:
    course = Course(story, DETAILS)
    pieces = ("converting adapter", "converting model", "a note", "quantizing F32 model to Q8_0", "reading model data")
    before = story.begun_at
    for status in (*pieces, pieces[-1]):  # what is read twice begins anew
        ratios = [course.told(Progress(status, NO_DIGEST, 10, done)).ratio for done in range(11)]
        assert before == ratios[0] < ratios[5] < ratios[10] < story.template_at
        assert ratios == sorted(ratios)
        before = ratios[-1]
    assert course.told(Progress("writing manifest")).ratio > before
    course = Course(story, DETAILS)
    sent = [course.told(Progress("pushing model to far", digest, 10, 10)).ratio for digest in ("sha256:a", "sha256:b")]
    assert story.template_at < sent[0] < sent[1] < VERIFY_AT


# What a retry repeats, and what is left


@awaited
async def test_a_retry_does_not_unpack_what_is_an_artifact_already() -> None:
    takes, makes = Takes(), Makes()
    steps = await said(deploys(takes, makes).deploy(Ticket(reached=UPLOADED)))
    assert steps[0].action == "Start create model."
    assert (takes.unpacked, takes.discarded, makes.made) == ([], ["first"], [MEANT])  # and of no other upload
    await said(deploys(takes, makes).deploy(Ticket(reached="uploaded")))  # by an earlier version, which knew no ids
    assert makes.made[1] == WANTED
    await said(deploys(takes, makes).deploy(Ticket(reached="saved")))
    assert takes.unpacked == [("first", "a.zip")]


@awaited
async def test_an_upload_that_is_an_artifact_already_is_found_and_not_asked_for_again() -> None:
    takes, ticket = Takes(), Ticket(request_of(Upload("a.zip")), reached=UPLOADED)
    assert await said(deploys(takes).upload(ticket)) == [LAST]
    assert (takes.unpacked, takes.found) == ([], [("first", "a.zip", UPLOADED)])


@awaited
async def test_an_upload_whose_artifact_is_there_is_past_its_last_moment() -> None:
    published = Step("Publish model.", 0.99, {"model": "a.zip"}, UPLOADED)
    ticket = Ticket(request_of(Upload("a.zip")))
    async with aclosing(deploys(Takes([*UNPACKED[:-1], published, LAST])).upload(ticket)) as steps:
        settled = [(step.whole, ticket.settled) async for step in steps]
    assert [whole == UPLOADED for whole, _ in settled] == [is_settled for _, is_settled in settled]


@awaited
@pytest.mark.parametrize("kind", ["upload", "deploy"])
@pytest.mark.parametrize("interrupted", [False, True])
async def test_who_cancels_wants_nothing_to_stay_and_the_server_s_end_keeps_it(kind: str, *, interrupted: bool) -> None:
    takes = Takes()
    request = request_of(Upload("a.zip")) if kind == "upload" else request_of(WANTED)
    ticket = Ticket(request)
    async with aclosing(getattr(deploys(takes), kind)(ticket)) as steps:
        await anext(steps)
        ticket.interrupted = interrupted
    assert takes.discarded == ([] if interrupted else ["first"])


@awaited
async def test_what_fails_is_the_business_of_who_unpacks() -> None:
    takes = Takes([UNPACKED[0], ModelDamaged("no weights")])
    with pytest.raises(ModelDamaged):
        await said(deploys(takes).upload(Ticket(request_of(Upload("a.zip")))))
    assert takes.discarded == []


@awaited
async def test_a_task_that_is_cancelled_before_its_turn_leaves_nothing_either() -> None:
    takes = Takes()
    here = deploys(takes)
    tasks = Tasks(MemoryTasks(), here.works, at_once=0, pause=unhurried, discard=takes.discard)
    task = await tasks.start("upload", "a", request_of(Upload("a.zip")))
    assert (await tasks.cancel(task.id)).state == "cancelled"
    assert (takes.unpacked, takes.discarded) == ([], [task.id])


@awaited
async def test_forgetting_what_failed_clears_away_what_it_kept_for_a_retry() -> None:
    takes = Takes([UNPACKED[0], Conflict("in use")])
    tasks = Tasks(MemoryTasks(), deploys(takes).works, pause=unhurried, discard=takes.discard)
    task = await tasks.start("upload", "a", request_of(Upload("a.zip")))
    assert (await ended(tasks, task.id)).state == "failed"
    assert takes.discarded == []
    await tasks.remove(task.id)
    assert takes.discarded == [task.id]


@awaited
async def test_as_a_task_a_failure_is_the_last_that_is_said() -> None:
    makes = Makes(Progress("converting model"), ModelDamaged("weights that are none"))
    tasks = Tasks(MemoryTasks(), deploys(makes=makes).works, pause=unhurried)
    task: Task = await tasks.start("deploy", "mine", request_of(WANTED))
    events: list[Event] = await heard(tasks, task.id)
    assert [event.status for event in events] == [200] * (len(events) - 1) + [ModelDamaged.status]
    assert events[-1].ratio < 1
    assert events[-1].details["msg"] == "weights that are none"
    assert (await tasks.get(task.id)).reached == UPLOADED
    again = await tasks.retry(task.id)
    with suppress(LocalModelsError):
        assert (await heard(tasks, again.id))[0].action == "Start create model."


# On several servers

SPREAD = Deployment(CreateRequest("mine", artifact="a"), "*", Upload("a.zip"))
ON_THREE = (
    Progress("reading model metadata"),
    Progress("creating new layer sha256:12"),
    *(Progress("waiting", server=name) for name in "abc"),
    Progress("pushing model to b", "sha256:1", 10, 5, server="b"),
    Progress("verifying model", server="b"),
    Progress("writing manifest", server="b"),
    Progress("success", server="b"),
    Progress("error", server="a", failure="it is gone"),
    Progress("verifying model", server="c"),
    Progress("success", server="c"),
)


def retried(reached: str) -> Ticket:
    return Ticket(request_of(SPREAD), reached=reached)


@awaited
async def test_each_server_has_a_row_and_the_ratio_is_of_all() -> None:
    steps = await said(deploys(makes=Makes(*ON_THREE, Progress(SUCCESS))).deploy(retried("")))
    assert [step.ratio for step in steps] == sorted(step.ratio for step in steps)
    assert all(step.ratio < 1 for step in steps[:-1])
    placing = [step for step in steps if "servers" in step.details]
    assert [step.details["server"] for step in placing] == [one.server for one in ON_THREE if one.server]
    assert placing[-1].details["servers"] == [
        {"server": "a", "status": "error", "failure": "it is gone"},
        {"server": "b", "status": "success"},
        {"server": "c", "status": "success"},
    ]
    assert placing[3].details["servers"][1] == {
        "server": "b", "status": "pushing model to b", "total": 10, "completed": 5,
    }  # fmt: skip
    assert [step.action for step in steps].count(TEMPLATE) == 1
    assert short(steps)[-1] == ("Success create model", 1.0)


@awaited
async def test_a_retry_does_only_what_is_missing() -> None:
    failing = Makes(*ON_THREE, BackendError("1 of 3 servers failed: a: it is gone"))
    tasks = Tasks(MemoryTasks(), deploys(makes=failing).works, pause=unhurried)
    task = await ended(tasks, (await tasks.start("deploy", "mine", request_of(SPREAD))).id)
    assert task.failure is not None
    assert "1 of 3 servers" in task.failure.message
    assert [made.server for made in failing.made] == ["*"]
    assert (servers_of(task.reached), made_by(task.reached)) == (frozenset("bc"), "7f")
    again, takes = Makes(*ON_THREE[:2], Progress("verifying model"), Progress(SUCCESS)), Takes()
    await said(deploys(takes, again).deploy(retried(task.reached)))
    assert [(made.server, made.create.artifact_id) for made in again.made] == [("a", "7f")]
    assert takes.unpacked == []


@awaited
async def test_what_was_on_every_server_is_made_once_more() -> None:
    makes = Makes()
    await said(deploys(makes=makes).create(retried("on:a on:b on:c")))
    assert [made.server for made in makes.made] == ["a"]


def test_what_a_task_has_reached_says_on_which_servers() -> None:
    reached = put_on(put_on(uploaded_as("7f"), "a"), "box-b")
    assert (is_uploaded(reached), made_by(reached), servers_of(reached)) == (True, "7f", frozenset({"a", "box-b"}))
    bare = put_on("", "a")
    assert (is_uploaded(bare), made_by(bare), servers_of(bare)) == (False, "", frozenset({"a"}))


# What is looked at before


@pytest.mark.parametrize(
    ("create", "server", "error"),
    [
        (CreateRequest("a b"), "", InvalidValue),
        (CreateRequest("m", quantize="Q9"), "", InvalidRequest),
        (CreateRequest("m", template="{{ if }}"), "", InvalidRequest),
        (CreateRequest("m"), "other", Unsupported),
    ],
)
def test_what_is_asked_is_looked_at(create: CreateRequest, server: str, error: type[Exception]) -> None:
    def refused(name: str) -> Sequence[ServerSpec]:
        raise Unsupported(f"no models are made on '{name}'", param="server")

    with pytest.raises(error):
        deploys(servers=refused).check(Deployment(create, server))


def test_what_can_be_made_passes() -> None:
    asked: list[str] = []

    def noted(servers: str) -> Sequence[ServerSpec]:
        asked.append(servers)
        return named(servers)

    here = deploys(servers=noted)
    here.check(Deployment(CreateRequest("m", quantize="q4_k_m", template="{{ .Prompt }}")))
    here.check(Deployment(CreateRequest("m"), "far"))
    assert asked == ["far"]
