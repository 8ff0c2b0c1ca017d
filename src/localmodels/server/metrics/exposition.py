"""Writes the figures down for Prometheus, in the text form or in OpenMetrics, as the scraper asks.

This module is loaded by the first scrape: most servers are never scraped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, groupby, islice

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

import localmodels
from localmodels.flows.metric import Reading
from localmodels.server.metrics.meter import Asked, Histogram, Meter, OfModel

ASKED = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

_HISTOGRAMS: Sequence[tuple[str, str, Callable[[OfModel], Histogram]]] = (
    (
        "gen_ai_server_time_to_first_token_seconds",
        "From the request to the first piece.",
        lambda figures: figures.first_token,
    ),
    (
        "gen_ai_server_time_per_output_token_seconds",
        "Between two tokens after the first.",
        lambda figures: figures.each_token,
    ),
    (
        "localmodels_queue_wait_seconds",
        "From the request until a model took it, loading included.",
        lambda figures: figures.waited,
    ),
)
END = b"# EOF\n"  # of OpenMetrics; Prometheus' own form has none
HEAD = re.compile(rb"\A(?:#.*\n)+")  # what is said once of a family: its kind, and what it is
PORTION = 16  # series of histograms that are written at once: some three hundred lines


class Figures(Collector):
    """All of them at one moment.

    Args:
        meter: what happened so far.
        readings: how things stand.
    """

    def __init__(self, meter: Meter, readings: Iterable[Reading]) -> None:
        self._meter = meter
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Family by family."""
        yield from self._counted()
        yield from self._by_model(sorted(self._meter.models.items()))
        yield from families(self._readings)
        yield from self._connections()
        build = GaugeMetricFamily("localmodels_build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([localmodels.__version__], 1)
        yield build

    def _counted(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "localmodels_requests", "Requests that ended.", labels=["route", "method", "dialect", "status"]
        )
        for (route, method, dialect, status), number in sorted(self._meter.ended.items()):
            requests.add_metric([route, method, dialect, str(status)], number)
        yield requests
        errors = CounterMetricFamily("localmodels_errors", "Requests that ended with an error.", labels=["code"])
        for code, number in sorted(self._meter.refused.items()):
            errors.add_metric([code], number)
        yield errors
        tasks = CounterMetricFamily("localmodels_tasks", "Tasks that ended.", labels=["kind", "state"])
        for (kind, state), number in sorted(self._meter.tasks.items()):
            tasks.add_metric([kind, state], number)
        yield tasks

    def _connections(self) -> Iterator[Metric]:
        if (edge := self._meter.edge) is None:
            return
        yield GaugeMetricFamily("localmodels_connections", "Connections that are open.", edge.open)
        refused = CounterMetricFamily(
            "localmodels_edge_refused", "Requests that were refused before any route saw them.", labels=["code"]
        )
        for code, number in sorted(edge.refusals.items()):
            refused.add_metric([code], number)
        yield refused

    @staticmethod
    def _by_model(models: Sequence[tuple[Asked, OfModel]]) -> Iterator[Metric]:
        tokens = CounterMetricFamily(
            "localmodels_tokens",
            "Tokens of prompts, those of them that were in the cache, and of answers.",
            labels=["model", "server", "type"],
        )
        by_model: dict[tuple[str, str], list[int]] = {}
        for asked, figures in models:
            sums = by_model.setdefault((asked.model, asked.server), [0, 0, 0])
            for place, number in enumerate((figures.prompt, figures.cached, figures.completion)):
                sums[place] += number
        for (model, server), sums in sorted(by_model.items()):
            for kind, number in zip(("prompt", "cached", "completion"), sums, strict=True):
                tokens.add_metric([model, server, kind], number)
        yield tokens
        ends = (
            ((*asked, error), histogram)
            for asked, figures in models
            for error, histogram in sorted(figures.duration.items())
        )
        name, doc = "gen_ai_server_request_duration_seconds", "From the request to its end."
        yield from portions(partial(HistogramMetricFamily, name, doc, labels=[*ASKED, "error_type"]), ends)
        for name, doc, histogram_of in _HISTOGRAMS:
            series = ((asked, histogram_of(figures)) for asked, figures in models)
            yield from portions(partial(HistogramMetricFamily, name, doc, labels=ASKED), series)


def portions(
    family: Callable[[], HistogramMetricFamily], series: Iterable[tuple[Sequence[str], Histogram]]
) -> Iterator[Metric]:
    """A family as several of the same name, each with some of its series; one at least."""
    rest, begun = iter(series), False
    while (some := list(islice(rest, PORTION))) or not begun:
        begun = True
        portion = family()
        for labels, histogram in some:
            add(portion, labels, histogram)
        yield portion


def add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    """One series, if anything is in it; Prometheus counts upwards."""
    upwards = list(accumulate(histogram.counts))
    if upwards[-1]:
        bounds = [*map(str, histogram.bounds), "+Inf"]
        family.add_metric(labels, list(zip(bounds, upwards, strict=True)), histogram.total)


def families(readings: Iterable[Reading]) -> Iterator[Metric]:
    """Readings of one name as one family."""
    for name, same in groupby(sorted(readings, key=lambda reading: reading.name), key=lambda reading: reading.name):
        some = list(same)
        kind = CounterMetricFamily if some[0].counts else GaugeMetricFamily
        family = kind(name, some[0].doc, labels=[label for label, _ in some[0].labels])
        for reading in some:
            family.add_metric([text for _, text in reading.labels], reading.value)
        yield family


class Alone(CollectorRegistry):
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """The one."""
        yield self._family


def exposition(meter: Meter, readings: Iterable[Reading], accept: str) -> tuple[bytes, str]:
    """The page, and its content type; ``accept`` is the scraper's header.

    Some series at a time: of thousands the whole page would be a dozen megabytes of small things at once, and what is
    taken from the system for a moment is not all given back, since somebody else's small thing lies among them.
    """
    encode, content_type = choose_encoder(accept)
    page, name, end = bytearray(), "", b""
    for family in Figures(meter, readings).collect():
        piece = encode(Alone(family))
        if piece.endswith(END):
            end = END
        piece = piece.removesuffix(END)
        page += HEAD.sub(b"", piece) if family.name == name else piece
        name = family.name
    page += end
    return bytes(page), content_type
