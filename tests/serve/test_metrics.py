"""What Prometheus is told, and what its own parser makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_server import Running, as_url, running, square

parser = pytest.importorskip("prometheus_client.parser")


def figures(made: Running) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, by its name and labels."""
    told = made.http.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    families = parser.text_string_to_metric_families(told.text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def test_requests_tokens_times_and_the_cache_are_counted(seer: Path) -> None:
    with running(seer) as made:
        first = figures(made)
        usage = [made.chat(f"What is number {number}?", as_url(square())).json()["usage"] for number in range(3)]
        assert made.chat(model="other").status_code == 404
        made.http.get("/made/up/../" + "x" * 50)
        now = figures(made)
        route = ("route", "/v1/chat/completions")
        assert now["rebus_requests_total", (route, ("status", "200"))] == 3
        assert now["rebus_requests_total", (route, ("status", "404"))] == 1
        assert now["rebus_requests_total", (("route", "other"), ("status", "404"))] == 1
        assert now["rebus_generated_tokens_total", ()] == sum(one["completion_tokens"] for one in usage)
        assert now["rebus_time_to_first_token_seconds_count", ()] == 3
        assert 0 < now["rebus_time_to_first_token_seconds_sum", ()] < 60
        assert now["rebus_request_seconds_count", (route,)] == 4
        assert now["rebus_engine_images_made_total", ()] == 1
        assert now["rebus_engine_images_reused_total", ()] == 2
        assert now["rebus_queue_requests", ()] == now["rebus_running_requests", ()] == 0
        assert now["rebus_ready", ()] == 1
        kept, free = now["rebus_cache_blocks", (("state", "kept"),)], now["rebus_cache_blocks", (("state", "free"),)]
        assert kept > 0
        assert free + kept == first["rebus_cache_blocks", (("state", "free"),)]
        assert now["rebus_cache_used_ratio", ()] == 0
        assert now["rebus_engine_reused_tokens_total", ()] > 0
        assert not [name for name, labels in now if any("made" in value for _, value in labels)]


def test_two_servers_in_one_process_count_apart(seer: Path) -> None:
    with running(seer) as one, running(seer) as other:
        assert one.chat().status_code == 200
        label = (("route", "/v1/chat/completions"), ("status", "200"))
        assert figures(one)["rebus_requests_total", label] == 1
        assert ("rebus_requests_total", label) not in figures(other)
