"""What the rows are made of: everything that answers, by name."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from msgspec import Struct

from localmodels.flows.answering.chat import Answers
from localmodels.flows.answering.rerank import Ranker
from localmodels.flows.answering.responses import ResponseFlow
from localmodels.flows.fleet_library.fan_out import Everywhere
from localmodels.flows.library.keeper import Keeper
from localmodels.flows.routing.relay import Relays
from localmodels.flows.tasks.tasks import Tasks
from localmodels.server.deploys import Deploying
from localmodels.server.listings import Listings
from localmodels.server.management import Management
from localmodels.server.metrics.scrape import Scrape
from localmodels.server.route import Route
from localmodels.server.servers import ServerRoutes
from localmodels.server.status import Status
from localmodels.server.tokens import Tokens


class Parts(Struct, frozen=True, kw_only=True):
    """The collaborators of all endpoints."""

    answers: Answers
    ranker: Ranker
    listings: Listings
    status: Status
    tokens: Tokens
    keeper: Keeper
    require_here: Callable[[str], None]
    deploying: Deploying
    everywhere: Everywhere
    servers: ServerRoutes
    route: Route
    relays: Relays | None = None
    responses: ResponseFlow
    management: Management
    tasks: Tasks
    chat_timeout: float = inf
    scrape: Scrape
