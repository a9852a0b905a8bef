"""Weights files: whole, in shards, broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rebus.errors import WeightsError
from rebus.formats.config import load_config
from rebus.formats.weights import check_state, load_weights, save_weights


def shards(folder: Path) -> dict[str, torch.Tensor]:
    state = {"a": torch.randn(2), "b": torch.randn(3), "c": torch.randn(1)}
    save_file({"a": state["a"], "b": state["b"]}, folder / "one.safetensors")
    save_file({"c": state["c"]}, folder / "two.safetensors")
    places = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return state


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    state = shards(tmp_path)
    loaded = load_weights(tmp_path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert load_weights(tmp_path / "two.safetensors").keys() == {"c"}


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(WeightsError, match="same folder"):
        load_weights(tmp_path)


def test_broken_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither"):
        load_weights(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin.*convert"):
        load_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="weight_map"):
        load_weights(tmp_path)
    shards(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    with pytest.raises(WeightsError, match=r"one\.safetensors.*1 missing: 'b'"):
        load_weights(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "one.safetensors")
    with pytest.raises(WeightsError, match=r"two\.safetensors"):
        load_weights(tmp_path)
    save_file({"a": torch.zeros(100)}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 64):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="whole safetensors"):
            load_weights(tmp_path)


@pytest.mark.parametrize("content", [None, "[]", "not json"])
def test_a_broken_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_config(tmp_path)


def test_check_state_lists_what_does_not_fit() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    state = model.state_dict()
    check_state(model, state)
    state["0.weight"] = state["0.weight"].T
    state["extra"] = state.pop("1.bias")
    with pytest.raises(WeightsError) as caught:
        check_state(model, state)
    told = str(caught.value)
    assert "1 missing: '1.bias'" in told
    assert "1 left over: 'extra'" in told
    assert "expected (3, 2), received (2, 3) for '0.weight'" in told


def test_a_long_list_is_cut_short() -> None:
    with pytest.raises(WeightsError, match="and 14 more"):
        check_state(nn.Sequential(*[nn.Linear(1, 1) for _ in range(10)]), {})


def test_writing_shards_leaves_only_what_the_index_names(tmp_path: Path) -> None:
    state = {name: torch.randn(100_000) for name in "abcd"}
    save_weights(tmp_path, state)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    save_weights(tmp_path, state, max_shard_mb=1)  # 0.4 MB each
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    loaded = load_weights(tmp_path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    save_weights(tmp_path, {"a": torch.zeros(2)})
    assert not (tmp_path / "model.safetensors.index.json").exists()
    assert load_weights(tmp_path).keys() == {"a"}


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    save_weights(tmp_path, {"a": torch.zeros(10), "b": torch.zeros(400_000), "c": torch.zeros(10)}, max_shard_mb=1)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert load_weights(tmp_path).keys() == {"a", "b", "c"}


def test_only_floating_tensors_change_their_type(tmp_path: Path) -> None:
    save_weights(tmp_path, {"a": torch.ones(2), "n": torch.arange(2)}, dtype=torch.bfloat16)
    loaded = load_weights(tmp_path)
    assert (loaded["a"].dtype, loaded["n"].dtype) == (torch.bfloat16, torch.int64)
