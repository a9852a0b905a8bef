"""Starting from a Run or from a checkpoint of another project: settings, tokenizer and weights are taken over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rebus import api
from rebus.checkpoints.hf_load import open_checkpoint
from rebus.checkpoints.save_load import load_model
from rebus.errors import RebusError, RecipeError, RunError, WeightsError
from rebus.recipe import Recipe, TaskSettings
from rebus.resolve.from_base import base_processor, open_base, settle_base
from rebus.resolve.known import Start
from rebus.training.train import Assembled, assemble, learn
from tiny_checkpoints import V, write_bert, write_checkpoint

COLUMNS = {
    "classify": {"text": "text", "label": "label"},
    "generate": {"prompt": "text", "output": "output"},
    "ner": {},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "table.jsonl"
    rows = [
        {
            "text": f"the {noun} was {colour}",
            "output": f"{colour} {noun}",
            "label": colour,
            "split": "test" if n % 3 == 2 else "train",
        }
        for n, (noun, colour) in enumerate((a, b) for a in ("cat", "dog", "mat") for b in ("red", "blue", "good"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of several kinds."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoint(folder / "llama")
    write_checkpoint(folder / "chat", "llama tied", chat=True)
    write_checkpoint(folder / "gpt2", "gpt2")
    write_bert(folder / "bert", head=True)
    return folder


def recipe(table: Path, task: str, base: Path | str | None, **settings: Any) -> Recipe:
    made = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"text": "text", "output": "text", "label": "category"},
            "tasks": [TaskSettings(name=task, columns=COLUMNS[task], max_new_tokens=3)],
            "base": None if base is None else str(base),
            "train.steps": 3,
            "train.batch_size": 4,
            "train.precision": "fp32",
        }
    )
    return made.replace({name.replace("__", "."): value for name, value in settings.items()})


def ready(made: Recipe) -> tuple[Assembled, str]:
    told: list[str] = []
    return assemble(made, told.append), "\n".join(told)


def same(module: Any, reference: Any, *, rows: int | None = None) -> bool:
    """Whether every tensor of the reference is there, unchanged; of embeddings the first ``rows``."""
    ours, theirs = module.state_dict(), reference.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n][:rows], theirs[n][:rows]) for n in theirs)


# what a base decides


def test_settings_are_taken_from_a_checkpoint(table: Path, places: Path) -> None:
    settled = settle_base(recipe(table, "generate", places / "llama"), Start(), print)
    tower = settled.model.text
    assert (tower.kind, tower.width, tower.head_dim, tower.rope_theta, tower.tied) == ("decoder", 24, 8, 500.0, False)
    assert (tower.qk_norm, tower.rows, tower.context) == (False, V, 512)
    assert settled.base == str((places / "llama").resolve())
    assert settle_base(settled, Start(), print) == settled  # a saved recipe says nothing contrary
    without = recipe(table, "generate", None)
    assert settle_base(without, Start(), print) is without
    assert base_processor(without) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model__text__width": 64}, r"model\.text\.width: expected 24, as the base .* found 64"),
        ({"model__text__kind": "recurrent"}, r"model\.text\.kind: expected 'decoder'"),
        ({"model__text__depth": 3}, r"model\.text\.depth: expected 2"),
        ({"model__text__rope_theta": 7.0}, r"model\.text\.rope_theta: expected 500"),
        ({"model__size": "mini"}, r"model\.size: expected nothing.* found 'mini'"),
        ({"text__tokenizer": "other.json"}, r"text\.tokenizer: expected nothing.*brings its own"),
    ],
)
def test_a_contrary_setting_is_refused_by_name(table: Path, places: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        settle_base(recipe(table, "generate", places / "llama", **settings), Start(), print)


def test_settings_that_do_not_change_a_tower_stay_the_users(table: Path, places: Path) -> None:
    made = recipe(table, "classify", places / "bert", model__text__dropout=0.3, model__text__pool="cls")
    tower = settle_base(made, Start(), print).model.text
    assert (tower.dropout, tower.pool, tower.width) == (0.3, "cls", 24)


def test_texts_are_no_longer_than_positions_that_were_learned(table: Path, places: Path) -> None:
    told: list[str] = []
    assert settle_base(recipe(table, "classify", places / "bert"), Start(), told.append).text.max_length == 32
    assert "text.max_length: 32" in told[0]
    assert settle_base(recipe(table, "generate", places / "gpt2"), Start(), told.append).text.max_length == 47
    assert settle_base(recipe(table, "generate", places / "llama"), Start(), told.append).text.max_length == 256
    with pytest.raises(RecipeError, match=r"text\.max_length: expected at most 32.*found 40"):
        settle_base(recipe(table, "classify", places / "bert", text__max_length=40), Start(), print)


@pytest.mark.parametrize(
    ("name", "said", "kind"),
    [
        ("nowhere", "no such folder", RunError),
        ("empty", r"recipe\.yaml", RunError),
        ("model.gguf", r"model\.gguf", RebusError),
        ("mamba", "'mamba'", WeightsError),
    ],
)
def test_a_base_that_is_not_one_is_told(tmp_path: Path, name: str, said: str, kind: type[RebusError]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mamba").mkdir()
    (tmp_path / "mamba" / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(kind, match=said) as caught:
        open_base(str(tmp_path / name), print)
    assert all(caught.value.as_dict().values())


# weights and tokenizers


def test_an_encoder_learns_to_classify_from_bert(table: Path, places: Path) -> None:
    made, told = ready(recipe(table, "classify", places / "bert"))
    reference = open_checkpoint(places / "bert")[0]
    pooler = {"pooler.weight", "pooler.bias"}  # which the checkpoint, of a masked language model, has not
    state, theirs = made.model.text.state_dict(), reference.text.state_dict()
    assert state.keys() == theirs.keys() | pooler
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.items())
    assert made.processor.tokenizer.vocab_size == 24
    assert made.processor.read("the cat") == [1, *made.processor.tokenizer.encode("the cat"), 2]
    taken = len(reference.text.state_dict())
    assert f"{taken} tensors taken over, 4 begin anew" in told  # the pooler's and the head's
    named = made.model.text.named_parameters()
    assert all(getattr(parameter, "taken_over", False) is (name not in pooler) for name, parameter in named)


def test_berts_pooler_is_taken_where_it_is_used(table: Path, tmp_path: Path) -> None:
    reference = write_bert(tmp_path)
    made, _ = ready(recipe(table, "classify", tmp_path, model__text__pool="cls"))
    assert torch.equal(made.model.text.pooler.weight, reference.pooler.dense.weight)  # type: ignore[union-attr]


def test_a_decoder_with_a_chat_template_keeps_its_tokenizer(table: Path, places: Path) -> None:
    made, told = ready(recipe(table, "generate", places / "chat"))
    reference = open_checkpoint(places / "chat")[0]
    assert same(made.model.decoder, reference.decoder)
    assert made.processor.tokenizer.vocab_size == 24
    assert "0 begin anew" in told


@pytest.mark.parametrize("layout", ["chat", "plain"])
def test_a_decoder_without_one_is_given_turns_where_they_are_needed(table: Path, places: Path, layout: str) -> None:
    settings = recipe(table, "generate", places / "gpt2")
    settings = settings.replace({"tasks.0.layout": layout})
    made, _ = ready(settings)
    assert made.processor.tokenizer.vocab_size == (24 if layout == "plain" else 24 + 7)
    assert made.model.decoder is not None
    assert made.model.decoder.vocab_size == V  # there is room among the rows that stood empty
    assert same(made.model.decoder, open_base(str(places / "gpt2"), print).checkpoint and _opened(places / "gpt2"))


def _opened(place: Path) -> Any:
    from rebus.checkpoints.hf_load import read_checkpoint
    from rebus.models.towers.decoder import Decoder

    found = read_checkpoint(place)
    decoder = Decoder(found.tower, V)
    decoder.load_state_dict({name.removeprefix("decoder."): one for name, one in found.state().items()})
    return decoder


def test_new_ids_get_rows_that_are_the_mean(table: Path, places: Path, tmp_path: Path) -> None:
    shutil.copytree(places / "gpt2", tmp_path / "full")
    content = json.loads((tmp_path / "full" / "tokenizer.json").read_text())
    content["model"]["vocab"] |= {f"word{n}": 24 + n for n in range(26)}
    (tmp_path / "full" / "tokenizer.json").write_text(json.dumps(content))
    made, _ = ready(recipe(table, "generate", tmp_path / "full"))
    assert made.model.decoder is not None
    weight = made.model.decoder.embed_tokens.weight
    assert len(weight) == V + 7
    assert torch.equal(weight[:V], _opened(places / "gpt2").embed_tokens.weight)
    torch.testing.assert_close(weight[V:], weight[:V].mean(0).expand(7, -1))


def test_a_checkpoint_without_a_tensor_of_its_tower_is_refused(table: Path, places: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(places / "chat", tmp_path / "broken")
    state = load_file(tmp_path / "broken" / "model.safetensors")
    state.pop("model.layers.1.mlp.up_proj.weight")
    save_file(state, tmp_path / "broken" / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing: 'decoder\.layers\.1\.mlp\.up_proj\.weight'"):
        ready(recipe(table, "generate", tmp_path / "broken"))


def test_a_run_goes_on_to_another_task_with_its_tower_and_tokenizer(table: Path, tmp_path: Path) -> None:
    first = recipe(table, "generate", None, model__text__width=24, model__text__depth=1, model__text__heads=2)
    first = first.replace({"text.vocab_size": 300, "text.max_length": 24})
    run = learn(first, tmp_path / "first", log=lambda _: None, quiet=True)
    made, told = ready(recipe(table, "classify", run.folder))
    before = load_model(run)
    assert same(made.model.decoder, before[0].decoder)
    settled = made.prepared.recipe
    assert (settled.model.text.width, settled.model.text.depth, settled.text.max_length) == (24, 1, 24)
    assert made.processor.tokenizer.encode("the cat") == before[3].tokenizer.encode("the cat")
    assert "3 begin anew" in told
    with pytest.raises(RecipeError, match=r"model\.text\.heads"):
        ready(recipe(table, "classify", run.folder, model__text__heads=4))


def test_a_gguf_file_is_a_base_like_any_other(table: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from rebus.formats.gguf import write_gguf
    from rebus.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(["the cat was red", "the dog was blue"] * 3, 300, pattern="gpt-2")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=tokenizer.vocab_size, tie_word_embeddings=True, **shape))
    file = tmp_path / "model.gguf"
    write_gguf(file, theirs.config.to_dict(), theirs.state_dict(), tokenizer, precision="f32")
    made, told = ready(recipe(table, "generate", file))
    assert made.model.decoder is not None
    assert torch.equal(made.model.decoder.embed_tokens.weight, theirs.model.embed_tokens.weight)
    assert made.processor.tokenizer.encode("the cat") == tokenizer.encode("the cat")
    assert made.prepared.recipe.base == str(file.resolve())
    assert "0 begin anew" in told


def test_images_may_join_a_language_model(places: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    rows = []
    for number in range(8):
        Image.fromarray(np.full((32, 32, 3), 30 * number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(
            f"{number}.png,the {'cat' if number < 4 else 'dog'} was red,{'test' if number % 4 == 3 else 'train'}"
        )
    (tmp_path / "table.csv").write_text("image,caption,split\n" + "\n".join(rows), encoding="utf-8")
    made = Recipe().replace(
        {
            "data.path": str(tmp_path / "table.csv"),
            "data.split.column": "split",
            "image.size": 32,
            "data.kinds": {"caption": "text"},
            "model.image.width": 16,
            "model.image.heads": 2,
            "model.image.patch": 8,
            "model.fusion.kind": "cross",
            "tasks": [TaskSettings(name="caption", columns={"image": "image", "caption": "caption"})],
            "base": str(places / "chat"),
        }
    )
    ready_, told = ready(made)
    decoder = ready_.model.decoder
    assert decoder is not None
    assert decoder.memory_norm is not None
    reference = _opened(places / "chat").state_dict()
    assert all(torch.equal(decoder.state_dict()[name][: len(one)], one) for name, one in reference.items())
    assert "begin anew" in told


def test_a_run_from_a_checkpoint_is_one_itself(table: Path, places: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = api.train(
        table,
        recipe=recipe(table, "generate", None),
        base=places / "chat",
        out=tmp_path / "run",
        quiet=True,
    )
    assert run.recipe.base == str((places / "chat").resolve())
    theirs = AutoModelForCausalLM.from_pretrained(run.folder)
    assert tuple(theirs.get_input_embeddings().weight.shape) == (V, 24)
    ours = load_model(run)[0].decoder
    assert ours is not None
    assert torch.equal(theirs.model.norm.weight, ours.norm.weight)
    asked = [{"role": "user", "content": "the cat"}]
    before = AutoTokenizer.from_pretrained(places / "chat").apply_chat_template(asked)["input_ids"]
    assert AutoTokenizer.from_pretrained(run.folder).apply_chat_template(asked)["input_ids"] == before


def test_a_run_goes_on_without_its_base(table: Path, places: Path, tmp_path: Path) -> None:
    shutil.copytree(places / "bert", tmp_path / "bert")
    made = recipe(table, "classify", tmp_path / "bert", train__save_every=1, train__keep=9)
    whole = learn(made, tmp_path / "whole", log=lambda _: None, quiet=True)
    cut = tmp_path / "cut"
    shutil.copytree(whole.folder, cut)
    for name in ("config.json", "model.safetensors", "heads.safetensors"):
        (cut / name).unlink(missing_ok=True)
    for checkpoint in sorted((cut / "checkpoints").iterdir())[1:]:
        shutil.rmtree(checkpoint)
    shutil.rmtree(tmp_path / "bert")
    again = api.resume(cut, quiet=True)
    first, second = load_model(whole)[0].state_dict(), load_model(again)[0].state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
