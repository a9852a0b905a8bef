"""lm-evaluation-harness drives a model of ours, on tasks made of local files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rebus.errors import DataError, MissingPackageError
from rebus.evaluation import lm_eval as adapter
from rebus.inference.predictor import Predictor
from tiny_checkpoints import write_bert, write_checkpoint

lm_eval = pytest.importorskip("lm_eval", reason="pip install 'rebus-vlm[lm_eval]'")
pytestmark = pytest.mark.slow

CHOICE = """\
task: local_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choice.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
WRITE = """\
task: local_write
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/write.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["good", "\\n"], do_sample: false, max_gen_toks: 6}}
metric_list:
  - metric: exact_match
"""
FORESEE = """\
task: local_foresee
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/foresee.jsonl}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: bits_per_byte
"""
QUESTIONS = ["the cat was", "a red dog is", "not on the mat", "here and there"]
TEXTS = ["the cat was red and the dog was not blue on the mat", "a good mat is here"]


def simple(folder: Path, model: Any, *tasks: str, **more: Any) -> dict[str, dict[str, Any]]:
    from lm_eval.tasks import TaskManager

    (folder / "tasks").mkdir(exist_ok=True)
    for name, text in (("choice", CHOICE), ("write", WRITE), ("foresee", FORESEE)):
        (folder / "tasks" / f"{name}.yaml").write_text(text.format(folder=folder))
    rows = {
        "choice": [
            {"question": q, "choices": ["red", "not good", "bad dog here"], "answer": n % 3}
            for n, q in enumerate(QUESTIONS)
        ],
        "write": [{"question": q, "answer": "blue"} for q in QUESTIONS],
        "foresee": [{"text": text} for text in TEXTS],
    }
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=model, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, log_samples=True, **more
    )
    return {"results": found["results"], "samples": found["samples"]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, "llama", chat=True)
    return folder


def test_the_harness_finds_with_ours_what_it_finds_with_transformers(checkpoint: Path, tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(checkpoint), device="cpu", dtype="float32", batch_size=1, prefix_token_id=2)
    theirs.model.resize_token_embeddings(24)  # to the ids that the tokenizer has
    names = ("local_choice", "local_write", "local_foresee")
    expected, found = simple(tmp_path, theirs, *names), simple(tmp_path, adapter.model(checkpoint), *names)
    for name in names:
        for key, value in expected["results"][name].items():
            if isinstance(value, float):
                assert found["results"][name][key] == pytest.approx(value, abs=1e-4), (name, key)
    for name in names[::2]:
        for mine, other in zip(found["samples"][name], expected["samples"][name], strict=True):
            for one, reference in zip(mine["filtered_resps"], other["filtered_resps"], strict=True):
                assert torch.tensor(one).float().flatten().tolist() == pytest.approx(
                    torch.tensor(reference).float().flatten().tolist(), abs=1e-3
                )
    written = [sample["filtered_resps"][0] for sample in found["samples"]["local_write"]]
    assert written == [sample["filtered_resps"][0] for sample in expected["samples"]["local_write"]]
    assert not any("good" in text for text in written)


def test_conversations_are_laid_out_by_the_models_template(checkpoint: Path, tmp_path: Path) -> None:
    model = adapter.model(checkpoint)
    found = simple(tmp_path, model, "local_choice", apply_chat_template=True)
    (context, continuation) = found["samples"]["local_choice"][0]["arguments"][0]
    turns = [{"role": "user", "content": QUESTIONS[0]}]
    assert model.tok_encode(context) == model.driver.tokenizer.chat(turns, prompt=True)
    assert continuation.strip() == "red"
    assert model.tokenizer_name == model.driver.tokenizer.fingerprint
    left_open = model.apply_chat_template(
        [*turns, {"role": "assistant", "content": "red"}], add_generation_prompt=False
    )
    assert left_open.endswith("assistant red") or left_open.endswith("assistantred")


def test_it_is_registered(checkpoint: Path, tmp_path: Path) -> None:
    assert adapter.adapter() is adapter.adapter()
    found = simple(tmp_path, "rebus", "local_choice", model_args={"path": str(checkpoint), "max_length": 64})
    assert 0 <= found["results"]["local_choice"]["acc,none"] <= 1


def test_a_continuation_longer_than_the_model_reads_keeps_its_end(checkpoint: Path) -> None:
    driver = adapter.Driver(Predictor.open(checkpoint), max_length=6)
    long = [5, 6, 7, 8, 9, 10, 11, 12, 13]
    ((logprob, _),) = driver.likelihoods([([4], long)])
    ((expected, _),) = driver.likelihoods([(long[2:3], long[3:])])
    assert logprob == pytest.approx(expected)


def test_a_model_that_does_not_write_is_refused(tmp_path: Path) -> None:
    write_bert(tmp_path)
    with pytest.raises(DataError, match="a model that writes"):
        adapter.Driver(Predictor.open(tmp_path))


def test_without_the_library_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter.adapter.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(MissingPackageError, match=r"rebus-vlm\[lm_eval\]"):
        adapter.model("anywhere")
