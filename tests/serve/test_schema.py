"""The OpenAPI schema, and what schemathesis, which others wrote, makes of it: nothing that it asks breaks anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiny_server import Running, as_url, running, square, write_run

schemathesis = pytest.importorskip("schemathesis")


BOUND = (
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "top_logprobs",
    "logprobs",
    "dimensions",
    "target",
    "method",
    "stop",
)


def tame(body: dict[str, Any]) -> None:
    """Change a request that the schema allows so that it comes past the model's name and the server's limits."""
    if "model" in body:
        body["model"] = "run"
    if "messages" in body:
        body["messages"] = [*body["messages"][:1], {"role": "user", "content": "What colour?"}]
        body["messages"] = [one for one in body["messages"] if isinstance(one.get("content"), str)]
    if "rows" in body:
        body["rows"] = [{"question": "What?", "image": None} | row for row in body["rows"][:2]]
        body.pop("task", None)
    if len(str(body)) % 2:  # the others are told what is wrong
        for name in BOUND:
            body.pop(name, None)


@pytest.mark.slow
def test_no_request_that_schemathesis_thinks_of_breaks_the_server(tmp_path: Path) -> None:
    import hypothesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        negative_data_rejection,
        response_schema_conformance,
        status_code_conformance,
        unsupported_method,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
        negative_data_rejection,
        unsupported_method,
    ]
    run = write_run(tmp_path, "answer", "caption", "classify")
    asked: set[str] = set()
    with running(run, limits={"max_tokens": 8}) as made:
        schema = schemathesis.openapi.from_url(f"{made.url}/openapi.json")
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path == "/health":  # 503 is an answer of its own
                continue

            @hypothesis.given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
            @hypothesis.settings(
                max_examples=25,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            def right(case) -> None:  # type: ignore[no-untyped-def]
                if isinstance(case.body, dict):
                    tame(case.body)
                case.call_and_validate(checks=checks)

            @hypothesis.given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
            @hypothesis.settings(
                max_examples=25,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            def wrong(case) -> None:  # type: ignore[no-untyped-def]
                case.call_and_validate(checks=checks)

            right()
            if operation.body:
                wrong()
            asked.add(operation.path)
        assert made.quiet()
        counted = made.http.get("/metrics").text
        for path in ("chat/completions", "completions", "embeddings", "predict"):
            for status in (200, 400):
                assert f'rebus_requests_total{{route="/v1/{path}",status="{status}"}}' in counted
        assert made.chat("What?", as_url(square())).status_code == 200
    assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/predict", "/v1/models"} <= asked


def test_the_schema_names_every_route_and_its_errors(answering: Running) -> None:
    schema = answering.http.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/predict",
        "/v1/models",
        "/v1/models/{model}",
        "/health",
        "/metrics",
    }
    for path, methods in schema["paths"].items():
        for method in methods.values():
            assert {"200", "4XX", "5XX"} <= set(method["responses"]), path
            assert "422" not in method["responses"], path
            assert method["description"], path
    predict = schema["components"]["schemas"]["PredictRequest"]["properties"]
    assert set(predict) == {"model", "task", "rows", "explain", "target", "method"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/health", 405),
    ],
)
def test_routes_that_are_none_answer_with_the_same_object(
    answering: Running, method: str, path: str, status: int
) -> None:
    told = answering.http.request(method, path)
    assert told.status_code == status
    assert set(told.json()["error"]) == {"message", "type", "param", "code"}
    if status == 405:
        assert told.headers["allow"]
