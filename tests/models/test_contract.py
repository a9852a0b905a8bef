"""What every tower, fusion and head keeps, those of other packages too: it builds, gives the shapes and types that it
says, learns from one batch, and gives the same once saved and loaded; rows do not depend on one another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.batch import Batch, Inputs
from rebus.models.fusion import FUSIONS
from rebus.models.heads import HEADS, HeadSpec
from rebus.models.heads.pairs import Pairs
from rebus.models.towers import TOWERS, tower_kinds
from rebus.models.vlm import VisionLanguageModel

SOURCE = '''
import torch
from rebus.models.features import Features, join_features, masked_mean
from rebus.models.fusion import Condition, Fusion
from rebus.models.heads import Head
from rebus.models.towers import Tower
from rebus.recipe import OtherTower


class Beads(Tower):
    """Strings of beads, three numbers each."""

    modality = "beads"
    own_settings = OtherTower

    def __init__(self, settings, **context):
        super().__init__(settings)
        self.layer = torch.nn.Linear(3, self.width)

    def forward(self, x, real):
        tokens = self.layer(x)
        return Features(tokens, real, masked_mean(tokens, real))


class Heap(Fusion):
    """All tokens end to end."""

    def forward(self, features):
        return join_features(list(self.completed(features).values()))

    def condition(self, features):
        return Condition(prefix=self(features))


class Count(Head):
    """One number above zero a row."""

    def __init__(self, spec, parts):
        super().__init__(spec, parts)
        self.layer = torch.nn.Linear(parts.width, 1)

    def forward(self, context):
        return self.layer(context.fused().pooled).exp()
'''
POINTS = "[rebus.{}s]\n{} = beads_rebus_plugin:{}\n"
B, L, V, D, SIDE = 3, 5, 40, 16, 32
FUSED = [("joint", how) for how in ("concat", "mean", "weighted", "sum")]
FUSED += [("unified", "concat"), ("cross", "concat"), ("heap", "concat")]
SETS = [
    ("image", "text"),
    ("beads",),
    ("beads", "text"),
    ("tabular", "text"),
    ("image", "scan"),  # two of one sort
    ("image", "beads", "tabular", "text"),
]


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A distribution that offers a tower of a new modality, a fusion and a head."""
    folder = tmp_path_factory.mktemp("beads")
    info = folder / "beads_rebus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: beads-rebus\nVersion: 1.0\n")
    offered = (("tower", "beads", "Beads"), ("fusion", "heap", "Heap"), ("head", "count", "Count"))
    (info / "entry_points.txt").write_text("".join(POINTS.format(*one) for one in offered))
    (folder / "beads_rebus_plugin.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for registry in (TOWERS, FUSIONS, HEADS):
            patch.setattr(registry, "_items", dict(registry._items))
            patch.setattr(registry, "_loaded_plugins", False)
        yield
    sys.modules.pop("beads_rebus_plugin", None)


def settings(reads: tuple[str, ...], fusion: str, how: str, image: str, text: str) -> recipe.Model:
    shape, patch = {"width": D, "depth": 1, "heads": 2}, {"patch": 16}
    options = {"word_dropout": 0.0} if text == "wordvectors" else {}
    return recipe.Model.model_validate(
        {
            "image": {"kind": image if "image" in reads else "none", **shape, **patch},
            "text": {"kind": text if "text" in reads else "none", **shape, "options": options},
            "towers": {
                "beads": {"kind": "beads", "width": 12},
                "tabular": {"kind": "tabular", "width": 8, "depth": 1},
                "scan": {"kind": image, **shape, **patch, "width": 24},
            },
            "fusion": {"kind": fusion, "how": how, "depth": 1, "heads": 2},
        }
    )


def built(
    head: str,
    reads: tuple[str, ...],
    fusion: str = "unified",
    how: str = "concat",
    image: str = "vit",
    text: str = "encoder",
    seed: int = 0,
    **options: Any,
) -> VisionLanguageModel:
    torch.manual_seed(seed)
    model = VisionLanguageModel(
        settings(reads, fusion, how, image, text),
        recipe.Image(size=SIDE),
        {"t": HeadSpec(head, 4, reads, options)},
        vocab_size=V,
        max_length=16,
        contexts={"scan": {"size": SIDE}, "tabular": {"measured": 2, "features": 3, "categories": [4]}},
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate" in name or "o_proj" in name or "fc2" in name:  # what starts closed is opened
                torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch(seed: int = 0) -> Batch:
    """Three examples: the first has two images, the second none; the third has no beads."""
    rng = torch.Generator().manual_seed(seed)

    def images(count: int) -> Tensor:
        return torch.randint(0, 255, (count, 3, SIDE, SIDE), generator=rng).to(torch.uint8)

    real = torch.tensor([[True] * 4, [True, True, False, False]])
    inputs = {
        "image": Inputs({"pixels": images(3)}, torch.tensor([0, 0, 2])),
        "scan": Inputs({"pixels": images(3)}, torch.arange(3)),
        "beads": Inputs({"x": torch.randn(2, 4, 3, generator=rng), "real": real}, torch.tensor([0, 1])),
        "tabular": Inputs.one_each(
            values=torch.randn(3, 2, 3, generator=rng),
            known=torch.tensor([[True, True], [False, True], [True, False]]),
            codes=torch.randint(0, 4, (3, 1), generator=rng),
        ),
    }
    ids = torch.randint(0, V, (B, L), generator=rng)
    labels = torch.where(torch.rand(B, L, generator=rng) < 0.5, ids, -100)
    labels[:, 0] = ids[:, 0]
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[1, 3:] = False
    part = {
        "owner": torch.tensor([0, 1, 2]),
        "images": torch.tensor([0, 2]),
        "text_ids": ids,
        "text_mask": mask,
        "input_ids": ids,
        "positions": torch.arange(L).expand(B, L),
        "blocks": torch.zeros(B, L, dtype=torch.long),
        "labels": labels,
        "rng": torch.arange(B),
    }
    return Batch(B, inputs, {"t": part}, views={"image": Inputs({"pixels": images(3)}, torch.tensor([0, 0, 2]))})


def cut(given: Batch, head: str) -> Batch:
    """The batch as a head wants it: heads that learn from images alone are given rows that have one."""
    if head not in ("simclr", "masked"):
        return given
    part = {name: tensor[[0, 2]] for name, tensor in given.targets["t"].items() if name in ("owner", "rng")}
    return given.with_target("t", part)


def tensors(outputs: Any) -> list[Tensor]:
    return list(outputs) if isinstance(outputs, Pairs) else [outputs]


def check(make: Any, given: Batch, folder: Path) -> list[Tensor]:
    """Run one model through the contract; gives its outputs."""
    model = make(seed=0).eval()
    with torch.no_grad():
        first = tensors(model(given)["t"])
    for tensor in first:
        assert tensor.dtype == torch.float32
        assert bool(torch.isfinite(tensor).all())
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = sum(tensor.square().sum() for tensor in tensors(model(given)["t"]))
    before.backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    for name in model.towers:
        assert any(part.startswith(f"{name}.") for part in learned), f"the tower of {name} does not learn"
    optimizer.step()
    model.eval()
    with torch.no_grad():
        changed = tensors(model(given)["t"])
    assert any(not torch.equal(*pair) for pair in zip(first, changed, strict=True))
    save_file({name: one.contiguous() for name, one in model.state_dict().items()}, folder / "model.safetensors")
    again = make(seed=1).eval()
    again.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.no_grad():
        same = tensors(again(given)["t"])
    assert all(torch.equal(*pair) for pair in zip(changed, same, strict=True))
    return first


@pytest.mark.parametrize("head", ["vector", "write"])
@pytest.mark.parametrize("reads", SETS, ids="+".join)
@pytest.mark.parametrize(("fusion", "how"), FUSED, ids=lambda value: value)
def test_any_fusion_joins_any_modalities(
    fusion: str, how: str, reads: tuple[str, ...], head: str, tmp_path: Path
) -> None:
    def make(seed: int) -> VisionLanguageModel:
        return built(head, reads, fusion, how, seed=seed)

    given = batch()
    (first,) = check(make, given, tmp_path)
    written = int((given.targets["t"]["labels"] != -100).sum())
    assert first.shape == ((written, V) if head == "write" else (B, 4))


@pytest.mark.parametrize(("fusion", "how"), FUSED[:-1], ids=lambda value: value)  # a heap does not mix its tokens
def test_a_text_token_keeps_its_place_among_any_modalities(fusion: str, how: str, tmp_path: Path) -> None:
    reads = ("image", "beads", "text")
    (first,) = check(lambda seed: built("words", reads, fusion, how, seed=seed), batch(), tmp_path)
    assert first.shape == (B, L, 4)
    model, given = built("words", reads, fusion, how).eval(), batch()
    given.targets["t"]["text_ids"][0, 2] += -1 if given.targets["t"]["text_ids"][0, 2] else 1
    with torch.no_grad():
        other = model(given)["t"]
    assert not torch.allclose(other[0, 2], first[0, 2], atol=1e-4)
    assert torch.allclose(other[1:], first[1:], atol=1e-5)


@pytest.mark.parametrize("kind", ["convnet", "efficientnet", "resnet", "vit"])
@pytest.mark.parametrize("head", ["vector", "words", "write", "tokens", "pairs", "simclr", "masked", "count"])
def test_heads_on_image_towers(head: str, kind: str, tmp_path: Path) -> None:
    fusion = "none" if head in ("pairs", "simclr", "masked") else "unified"
    reads = ("image",) if head in ("tokens", "simclr", "masked") else ("image", "text")
    given = cut(batch(), head)
    first = check(lambda seed: built(head, reads, fusion, image=kind, seed=seed), given, tmp_path)
    written = int((batch().targets["t"]["labels"] != -100).sum())
    shapes: dict[str, list[tuple[int, ...]]] = {
        "vector": [(B, 4)],
        "words": [(B, L, 4)],
        "write": [(written, V)],
        "tokens": [(B, 8, 4)],  # two images of four tokens
        "pairs": [(2, D), (B, D), (), ()],
        "simclr": [(2, 2, 128)],
        "masked": [(2, 2)],
        "count": [(B, 1)],
    }
    assert [tuple(tensor.shape) for tensor in first] == shapes[head]


@pytest.mark.parametrize("kind", ["decoder", "encoder", "recurrent", "wordvectors"])
@pytest.mark.parametrize("head", ["vector", "words", "write", "mask", "pairs"])
def test_heads_on_text_towers(head: str, kind: str, tmp_path: Path) -> None:
    reads = {"pairs": ("beads", "text"), "mask": ("text",)}.get(head, ("beads", "text"))
    fusion = "none" if head in ("pairs", "mask") else "cross"
    if head == "mask" and kind != "encoder":
        with pytest.raises(RecipeError, match="reads both ways"):
            built(head, reads, fusion, text=kind)
        return
    first = check(lambda seed: built(head, reads, fusion, text=kind, seed=seed), batch(), tmp_path)
    written = int((batch().targets["t"]["labels"] != -100).sum())
    shapes = {"vector": (B, 4), "words": (B, L, 4), "write": (written, V), "mask": (written, V), "pairs": (2, D)}
    assert tuple(first[0].shape) == shapes[head]


def test_every_registered_part_is_here() -> None:
    assert set(tower_kinds("image")) == {"convnet", "efficientnet", "resnet", "vit"}
    assert set(tower_kinds("text")) == {"decoder", "encoder", "recurrent", "wordvectors"}
    assert set(TOWERS.names()) - set(tower_kinds("image")) - set(tower_kinds("text")) == {"beads", "tabular"}
    assert set(FUSIONS.names()) == {fusion for fusion, _ in FUSED}
    assert set(HEADS.names()) == {"vector", "words", "write", "tokens", "mask", "pairs", "simclr", "masked", "count"}


@pytest.mark.parametrize(("fusion", "how"), FUSED, ids=lambda value: value)
def test_a_row_is_the_same_alone_and_what_it_lacks_says_nothing(fusion: str, how: str) -> None:
    model, given = built("vector", ("image", "beads", "text"), fusion, how).eval(), batch()
    with torch.no_grad():
        whole = model(given)["t"]
        for row in range(B):
            rows = torch.arange(B) == row
            part = {name: tensor[row : row + 1] for name, tensor in given.targets["t"].items() if len(tensor) == B}
            inputs = {name: one.where(rows) for name, one in given.inputs.items()}
            owned = {name: Inputs(one.tensors, one.owner * 0, one.most) for name, one in inputs.items()}
            alone = model(Batch(1, owned, {"t": {**part, "owner": torch.tensor([0])}}))["t"]
            assert torch.allclose(alone[0], whole[row], atol=1e-5)


def test_the_second_image_of_a_row_is_seen_and_its_order_matters_little() -> None:
    model, given = built("vector", ("image", "text")).eval(), batch()
    pixels = given.inputs["image"].tensors["pixels"]
    with torch.no_grad():
        first = model(given)["t"]
        pixels[1] = 255 - pixels[1]
        other = model(given)["t"]
    assert not torch.allclose(other[0], first[0], atol=1e-4)
    assert torch.equal(other[1:], first[1:])


def test_a_head_refuses_options_that_it_does_not_know_and_a_modality_a_name_in_use() -> None:
    with pytest.raises(TypeError, match=r"expected options \['hidden'\], received \['hiden'\]"):
        built("vector", ("image",), hiden=2)
    with pytest.raises(RecipeError, match="a name that no part of a model has"):
        VisionLanguageModel(
            recipe.Model.model_validate({"text": {"kind": "none"}, "towers": {"forward": {"kind": "beads"}}}),
            recipe.Image(),
            {"t": HeadSpec("vector", 1, ("forward",))},
            vocab_size=V,
            max_length=8,
        )
