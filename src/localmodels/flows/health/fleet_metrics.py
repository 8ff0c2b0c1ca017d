"""How the fleet stands, for the metrics: a few figures for each host that there is now, by its name of now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import get_args

from localmodels.fleet.fleet import Fleet
from localmodels.fleet.hosts import Host, State
from localmodels.flows.connections.request_counts import Met, Tally
from localmodels.flows.connections.server_status import INACTIVE
from localmodels.flows.metric import Reading

STATES: tuple[str, ...] = (*get_args(State), INACTIVE)


def readings(fleet: Fleet, tally: Tally) -> Iterator[Reading]:
    """All of them, of every host."""
    for host in fleet.hosts():
        yield from _standing(fleet, host)
        yield from _counted(host.spec.name, tally.at(host))


def _standing(fleet: Fleet, host: Host) -> Iterator[Reading]:
    one = ("server", host.spec.name)
    state = host.state if host.spec.is_active else INACTIVE
    yield Reading("localmodels_server_up", _UP, float(host.state != "down"), (one,))
    for word in STATES:
        yield Reading("localmodels_server_state", _STATE, float(word == state), (one, ("state", word)))
    yield Reading("localmodels_server_in_flight", _IN_FLIGHT, host.in_flight, (one,))
    yield Reading("localmodels_server_waiting", _WAITING, host.waiting, (one,))
    yield Reading("localmodels_server_max_concurrent", _MOST, host.spec.max_concurrent or inf, (one,))
    silence = fleet.silence(host)
    if silence is not None:
        yield Reading("localmodels_server_seen_seconds", _SEEN, silence, (one,))


def _counted(name: str, met: Met) -> Iterator[Reading]:
    one = ("server", name)
    for series, doc, label, counts in (
        ("localmodels_server_requests", _REQUESTS, "outcome", met.ended),
        ("localmodels_failovers", _FAILOVERS, "reason", met.failovers),
        ("localmodels_routed", _ROUTED, "reason", met.chosen),
        ("localmodels_pulls_on_demand", _PULLS, "outcome", met.pulls),
    ):
        yield from _by(series, doc, one, label, counts)
    for series, doc, number in (
        ("localmodels_retries_refused", _REFUSED, met.refused),
        ("localmodels_duplicates", _DUPLICATES, met.duplicates),
        ("localmodels_routed_prompt_tokens", _PROMPTS, met.prompts),
        ("localmodels_routed_cached_tokens", _CACHED, met.cached),
    ):
        yield Reading(series, doc, number, (one,), counts=True)


def _by(name: str, doc: str, one: tuple[str, str], label: str, counts: Mapping[str, int]) -> Iterator[Reading]:
    for word, number in sorted(counts.items()):
        yield Reading(name, doc, number, (one, (label, word)), counts=True)


_UP = "Does a server answer, as far as is known? The server 'local' is this process's own engine."
_STATE = "1 for the state that a server is in: trying is one that was down and may prove itself by one request."
_IN_FLIGHT = "Requests of this gateway that a server answers."
_WAITING = "Requests of this gateway that wait for a place at a server."
_MOST = "Requests that a server gets at once; +Inf is without limit."
_SEEN = "Seconds since a server has told how it is."
_REQUESTS = "Requests that had a place at a server, by how they ended there."
_FAILOVERS = "Requests that a server failed and that went on to another, by the error."
_ROUTED = "Decisions for a server, by what spoke most for it."
_PULLS = "Models that were fetched to a server because nobody had them, by how that ended."
_REFUSED = "Requests that a server failed and that went to no other, since too many had been sent once more already."
_DUPLICATES = "Requests that went on to another server although this one may have begun to answer."
_PROMPTS = "Tokens of the prompts that were sent to a server, as far as routing looked at them."
_CACHED = "Tokens of these prompts that the server was said to hold already."
