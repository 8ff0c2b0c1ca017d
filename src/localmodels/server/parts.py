"""What the rows are made of: everything that answers, by name."""

from __future__ import annotations

from msgspec import Struct

from localmodels.flows.chat import Answers
from localmodels.flows.keeper import Keeper
from localmodels.server.listings import Listings
from localmodels.server.outside import Moves
from localmodels.server.status import Status
from localmodels.server.tokens import Tokens


class Parts(Struct, frozen=True, kw_only=True):
    """The collaborators of all endpoints."""

    answers: Answers
    listings: Listings
    status: Status
    tokens: Tokens
    keeper: Keeper
    moves: Moves
