"""Log-probabilities of given texts: what transformers computes for the same weights, whatever stands in the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rebus.checkpoints.hf_load import open_checkpoint
from rebus.errors import DataError
from rebus.generation.score import Scored, branch_mask, score
from rebus.models.features import Features
from rebus.models.fusion import Condition
from tiny_checkpoints import write_checkpoint

PROMPTS = [[1, 7, 9, 4, 12], [1, 20], [5, 6, 7, 8, 9, 10, 11, 12, 13]]
SAID = [[[3, 8], [4], [9, 9, 9, 2]], [[30, 2], [31, 5, 6, 7, 8, 9, 10, 2]], [[40]]]


def by_hand(reference: nn.Module, prompt: list[int], said: list[int]) -> tuple[float, bool]:
    """One text at a time through transformers."""
    with torch.no_grad():
        logits: Tensor = reference(torch.tensor([prompt + said])).logits[0].double()
    places = range(len(prompt) - 1, len(prompt) + len(said) - 1)
    told = logits.log_softmax(-1)
    greedy = all(int(logits[place].argmax()) == token for place, token in zip(places, said, strict=True))
    return sum(float(told[place, token]) for place, token in zip(places, said, strict=True)), greedy


@pytest.mark.parametrize("name", ["llama", "qwen3 tied", "gpt2"])
def test_scores_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    reference = write_checkpoint(tmp_path, name, chat=True)
    model = open_checkpoint(tmp_path)[0]
    found = score(model, PROMPTS, SAID)
    for prompt, several, told in zip(PROMPTS, SAID, found, strict=True):
        for said, one in zip(several, told, strict=True):
            logprob, greedy = by_hand(reference, prompt, said)
            assert one.logprob == pytest.approx(logprob, abs=1e-4)
            assert (one.tokens, one.greedy) == (len(said), greedy)


def test_a_score_does_not_depend_on_what_it_is_batched_with(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, chat=True)
    model = open_checkpoint(tmp_path)[0]
    together = score(model, PROMPTS, SAID)
    apart = score(model, PROMPTS, SAID, budget=1)
    alone = [
        [score(model, [prompt], [[said]])[0][0] for said in several]
        for prompt, several in zip(PROMPTS, SAID, strict=True)
    ]
    for other in (apart, alone):
        for row, told in zip(together, other, strict=True):
            assert [one.logprob for one in row] == pytest.approx([one.logprob for one in told], abs=1e-5)


def test_what_greedy_decoding_writes_is_known_as_such(tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path, chat=True)
    model = open_checkpoint(tmp_path)[0]
    written = reference.generate(  # type: ignore[operator]
        torch.tensor([PROMPTS[0]]), max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(PROMPTS[0]) :].tolist()
    other = [*written[:-1], (written[-1] + 1) % 50]
    assert [one.greedy for one in score(model, [PROMPTS[0]], [[written, other]])[0]] == [True, False]


def test_a_long_prompt_loses_its_beginning(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "gpt2", chat=True)
    model = open_checkpoint(tmp_path)[0]
    long = [int(one) for one in torch.randint(3, 50, (200,), generator=torch.Generator().manual_seed(0))]
    assert score(model, [long], [[[7, 8]]]) == score(model, [long[-95:]], [[[7, 8]]])  # 96 places, one of them for 7
    assert score(model, [long], [[[7]]], most=10) == score(model, [long[-10:]], [[[7]]])
    with pytest.raises(DataError, match="at most 10 tokens"):
        score(model, [[3]], [[long]], most=10)


@pytest.mark.parametrize(("prompt", "said"), [([], [[3]]), ([3], [[]]), ([3], [])])
def test_empty_texts_are_refused(tmp_path: Path, prompt: list[int], said: list[list[int]]) -> None:
    write_checkpoint(tmp_path, chat=True)
    with pytest.raises(DataError, match="prompt 1"):
        score(open_checkpoint(tmp_path)[0], [prompt], [said])


def test_a_prefix_is_seen_by_every_continuation(tmp_path: Path) -> None:
    """Tokens before the prompt change all scores, and a row's own prefix is used wherever the row ends up."""
    write_checkpoint(tmp_path, chat=True)
    model = open_checkpoint(tmp_path)[0]
    width = model.decoder.width  # type: ignore[union-attr]
    tokens = torch.randn(3, 2, width, generator=torch.Generator().manual_seed(0))
    condition = Condition(prefix=Features(tokens, torch.ones(3, 2, dtype=torch.bool), tokens[:, 0]))
    bare, given = score(model, PROMPTS, SAID), score(model, PROMPTS, SAID, condition=condition)
    for row in range(3):
        mine = condition.select(torch.tensor([row]))
        alone = score(model, [PROMPTS[row]], [SAID[row]], condition=mine)[0]
        assert [one.logprob for one in given[row]] == pytest.approx([one.logprob for one in alone], abs=1e-5)
        assert abs(given[row][0].logprob - bare[row][0].logprob) > 1e-3


def test_branches_do_not_see_one_another() -> None:
    seen = branch_mask(torch.tensor([[0, 0, 1, 2, 2, -1]]))[0]
    assert seen[2].tolist() == [True, True, True, False, False, False]
    assert seen[4].tolist() == [True, True, False, True, True, False]
    assert not bool(seen[5, 5])


def test_training_mode_is_left_as_it_was(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, chat=True)
    model = open_checkpoint(tmp_path)[0].train()
    assert isinstance(score(model, [[3]], [[[4]]])[0][0], Scored)
    assert model.training
