"""A checkpoint of another project asked, talked with and made to write, in Python and from the shell."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import rebus
from rebus.cli.app import app
from rebus.errors import DataError, RecipeError
from rebus.generation.sampling import Sampling
from rebus.text.tokenizer import Tokenizer
from tiny_checkpoints import write_bert, write_checkpoint

TURNS = [{"role": "user", "content": "the cat is"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chat")
    write_checkpoint(made, "llama", chat=True)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return rebus.load(folder)


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose tokenizer works on bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = tmp_path_factory.mktemp("bytewise")
    tokenizer = Tokenizer.train(["the cat and the dog"] * 3, 290)
    tokenizer.save(made)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=tokenizer.eos_id,
    )
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(made)
    return made


def said_by_transformers(folder: Path, ids: list[int], new: int) -> list[int]:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    beyond = list(range(24, 50))  # rows that the tokenizer has no ids for: Rebus never writes them
    told = reference.generate(
        torch.tensor([ids]), max_new_tokens=new, do_sample=False, pad_token_id=0, suppress_tokens=beyond
    )
    return [one for one in told[0, len(ids) :].tolist() if one != 2]


def test_a_conversation_equals_transformers(folder: Path, model: Any) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    messages = list(TURNS)
    for turn in ("a dog was", "not red"):
        laid = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = theirs(laid, add_special_tokens=False)["input_ids"]
        expected = said_by_transformers(folder, ids, 12)
        answer = model.chat(messages, max_new_tokens=12)
        assert answer == theirs.decode(expected, skip_special_tokens=True).strip()
        assert "".join(model.chat(messages, stream=True, max_new_tokens=12)).strip() == answer
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]


def test_the_persona_of_a_template_is_left_out_unless_asked_for(folder: Path, tmp_path: Path) -> None:
    """Some templates put a text of their makers before a conversation that has no system turn."""
    shutil.copytree(folder, tmp_path / "persona")
    config = json.loads((tmp_path / "persona/tokenizer_config.json").read_text(encoding="utf-8"))
    own = "{% if messages[0]['role'] != 'system' %}<s>system good dog good dog</s>{% endif %}"
    config["chat_template"] = own + config["chat_template"]
    (tmp_path / "persona/tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    model, plain = rebus.load(tmp_path / "persona"), rebus.load(folder)
    silent = [{"role": "system", "content": ""}, *TURNS]
    said = model.chat(TURNS, max_new_tokens=9)
    assert said == model.chat(silent, max_new_tokens=9) == plain.chat(silent, max_new_tokens=9)
    assert model.ask(None, "the cat is", max_new_tokens=9) == said
    assert said != plain.chat(TURNS, max_new_tokens=9)  # where a template has no persona, nothing is added


def test_a_question_is_a_conversation_of_one_turn(model: Any) -> None:
    assert model.ask(None, "the cat is", max_new_tokens=9) == model.chat(TURNS, max_new_tokens=9)
    told = [{"role": "system", "content": "good dog"}, *TURNS]
    assert model.ask(None, "the cat is", system="good dog", max_new_tokens=9) == model.chat(told, max_new_tokens=9)
    drawn = [model.ask(None, "the cat is", temperature=2.0, seed=seed, max_new_tokens=9) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_generate(model: Any) -> None:
    one = model.generate("the cat", max_new_tokens=8)
    assert isinstance(one, str)
    assert model.generate(["the cat", "a dog was red"], max_new_tokens=8)[0] == one
    several = model.generate(["the cat", "a dog"], max_new_tokens=8, n=3, temperature=1.5, seed=4)
    assert [len(texts) for texts in several] == [3, 3]
    assert several[0] == model.generate("the cat", max_new_tokens=8, n=3, temperature=1.5, seed=4)
    assert "".join(model.generate("the cat", max_new_tokens=8, stream=True)) == one
    word = one.split()[2]
    assert model.generate("the cat", max_new_tokens=8, stop=word) == one[: one.index(word)]
    assert len(model.generate("the cat", max_new_tokens=5, beams=3, n=2)) == 2


def test_generate_by_a_constraint(bytewise: Path, model: Any) -> None:
    made = rebus.load(bytewise)
    for text in made.generate(["the", "dog"], regex="(cat|dog)+[0-9]", max_new_tokens=200, temperature=1.0, n=2)[0]:
        assert re.fullmatch("(cat|dog)+[0-9]", text)
    schema = {"type": "object", "properties": {"a": {"enum": [1, "猫"]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    assert json.loads(made.generate("the", json_schema=schema))["a"] in (1, "猫")
    assert json.loads(made.generate("the", json_schema=json.dumps(schema)))["a"] in (1, "猫")
    with pytest.raises(RecipeError, match="both"):
        made.generate("the", json_schema=schema, regex="cat")
    with pytest.raises(RecipeError, match="tokenizer"):
        model.generate("the", regex="cat")  # whole words, no bytes


def test_precision(folder: Path) -> None:
    half = rebus.load(folder, precision="bf16")
    assert half.predictor.model.decoder.embed_tokens.weight.dtype == torch.bfloat16
    assert isinstance(half.generate("the cat", max_new_tokens=4), str)
    with pytest.raises(RecipeError, match="fp32"):
        rebus.load(folder, precision="fp16")


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "a message of the user's"),
        ([{"role": "assistant", "content": "hi"}], "a message of the user's"),
        ([{"content": "hi"}], "a role"),
        ([{"role": "user", "content": [{"type": "sound"}]}], "messages with a role"),
        ([{"role": "user", "content": 3}], "messages with a role"),
        ([{"role": "robot", "content": "x"}, *TURNS], "robot"),
    ],
)
def test_conversations_that_cannot_be_read(model: Any, messages: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        model.chat(messages)


def test_what_a_stream_cannot_be(model: Any) -> None:
    with pytest.raises(RecipeError, match="one text"):
        list(model.generate("the", stream=True, n=2))
    with pytest.raises(DataError, match="one prompt"):
        model.generate(["the", "a"], stream=True)


def test_the_predictor_and_the_engine_agree(model: Any) -> None:
    prediction = model.predictor.ask(None, "the cat is", sampling=Sampling(9))
    assert prediction.value == model.chat(TURNS, max_new_tokens=9)
    assert 0 < prediction.confidence <= 1


def run(*words: str, typed: str | None = None) -> Any:
    return CliRunner().invoke(app, list(words), input=typed)


def test_the_shell_says_the_same(folder: Path, model: Any, tmp_path: Path) -> None:
    answer = model.chat(TURNS)
    assert run("ask", str(folder), "the cat is").stdout == f"{answer}\n"
    assert run("ask", str(folder), "the cat is", "a dog").stdout.splitlines()[0] == answer
    assert run("chat", str(folder), typed="the cat is\n").stdout.rstrip() == f"> {answer}\n>".rstrip()
    text = model.generate("the cat", max_new_tokens=6)
    words = ["generate", str(folder), "the cat", "--max-new-tokens", "6"]
    assert run(*words).stdout == run(*words, "--stream").stdout == f"{text}\n"
    assert run("generate", str(folder), "-", "--max-new-tokens", "6", typed="the cat").stdout == f"{text}\n"
    drawn = run(*words, "--n", "2", "--temperature", "1.5", "--seed", "3", "--top-k", "9", "--top-p", "0.9").stdout
    assert drawn.rstrip("\n").split("\n---\n") == model.generate(
        "the cat", max_new_tokens=6, n=2, temperature=1.5, seed=3, top_k=9, top_p=0.9
    )


def test_constraints_from_the_shell(bytewise: Path, tmp_path: Path) -> None:
    assert run("generate", str(bytewise), "the", "--regex", "red|blue").stdout in ("red\n", "blue\n")
    file = tmp_path / "schema.json"
    file.write_text('{"enum": ["狗", "猫"]}', encoding="utf-8")
    assert json.loads(run("generate", str(bytewise), "the", "--json-schema", str(file)).stdout) in ("狗", "猫")
    done = run("generate", str(bytewise), "the", "--regex", "(a")
    assert (done.exit_code, "regular expression" in done.stderr) == (2, True)
    file.write_text('{"type": "objekt"}', encoding="utf-8")
    done = run("generate", str(bytewise), "the", "--json-schema", str(file))
    assert done.exit_code == 2
    assert "JSON schema" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--top-p", "2"], "top_p"),
        (["--json-schema", "nowhere.json"], "nowhere.json"),
        (["--regex", "a"], "tokenizer"),
        (["--stop", ""], "stop"),
        (["--n", "2", "--stream"], "one text"),
        (["--precision", "fp8"], "fp8"),
    ],
)
def test_mistakes_in_the_shell_are_told(folder: Path, words: list[str], told: str) -> None:
    done = run("generate", str(folder), "the cat", *words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_no_such_model(tmp_path: Path) -> None:
    for verb in ("ask", "generate"):
        done = run(verb, str(tmp_path / "nowhere"), "hello")
        assert done.exit_code == 2
        assert "nowhere" in done.stderr


def test_a_model_that_only_goes_on_from_texts(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "gpt2")
    made = rebus.load(tmp_path)
    assert made.tasks == ["lm"]
    text = made.generate("the cat", max_new_tokens=7)
    assert made.ask(None, "the cat", max_new_tokens=7) == text.strip()
    assert made.chat([{"role": "user", "content": "the cat"}], max_new_tokens=7) == text.strip()
    with pytest.raises(DataError, match="converses"):
        made.ask(None, "the cat", system="a dog")


def test_a_model_that_does_not_write_says_so(tmp_path: Path) -> None:
    write_bert(tmp_path)
    made = rebus.load(tmp_path)
    with pytest.raises(DataError, match="writes text"):
        made.generate("the cat")
    with pytest.raises(DataError, match="a message of the user"):
        made.chat([])
