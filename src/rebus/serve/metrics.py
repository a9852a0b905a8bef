"""Figures for Prometheus. A server has a registry of its own, so that two in one process do not meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from rebus.serve.loading import Served

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What is counted.

    Args:
        served: whose engine is asked when the figures are read; None: there is none.
    """

    def __init__(self, served: Served | None) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rebus_requests", "Requests answered, by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "rebus_request_seconds",
            "From a request's last byte to its answer's last.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.answering = Gauge("rebus_requests_in_progress", "Requests being answered.", registry=self.registry)
        self.first = Histogram(
            "rebus_time_to_first_token_seconds",
            "From a request to the first token of its text.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.read = Counter("rebus_prompt_tokens", "Tokens of the prompts that were asked.", registry=self.registry)
        self.written = Counter("rebus_generated_tokens", "Tokens that were told to clients.", registry=self.registry)
        if served is not None:
            self.registry.register(_Engine(served))

    def page(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _Engine(Collector):
    """The engine's figures at the moment when they are asked for."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def collect(self) -> Iterator[Metric]:
        """One after the other; none while the model is loading, or where it writes nothing."""
        served = self._served
        yield GaugeMetricFamily("rebus_ready", "1: the model answers.", value=float(served.ready))
        if not served.loaded or served.writer is None:
            return
        stats = served.writer.stats()
        yield GaugeMetricFamily("rebus_queue_requests", "Texts that wait for the engine.", value=stats.queued)
        yield GaugeMetricFamily("rebus_running_requests", "Texts being read or written.", value=stats.running)
        blocks = GaugeMetricFamily("rebus_cache_blocks", "Blocks of the cache, by what is in them.", labels=["state"])
        free = stats.blocks - stats.blocks_used - stats.blocks_cached
        for state, number in (("used", stats.blocks_used), ("kept", stats.blocks_cached), ("free", free)):
            blocks.add_metric([state], number)
        yield blocks
        share = stats.blocks_used / stats.blocks if stats.blocks else 0.0
        yield GaugeMetricFamily("rebus_cache_used_ratio", "Share of the cache that texts hold.", value=share)
        for name, words, number in (
            ("engine_prompt_tokens", "Tokens of prompts that were read.", stats.prompt_tokens),
            ("engine_reused_tokens", "Tokens of prompts that were found in the cache.", stats.reused_tokens),
            ("engine_generated_tokens", "Tokens written.", stats.new_tokens),
            ("engine_preemptions", "Texts put off because the cache was full.", stats.preemptions),
            ("engine_images_made", "Images that were encoded.", stats.images_made),
            ("engine_images_reused", "Images that were found encoded.", stats.images_reused),
            ("engine_cancelled", "Requests that nobody wanted any longer.", stats.cancelled),
            ("engine_refused", "Requests refused because too many waited.", stats.refused),
            ("engine_steps", "Passes through the decoder.", stats.steps),
        ):
            yield CounterMetricFamily(f"rebus_{name}", words, value=number)
