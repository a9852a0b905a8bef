"""Models of other projects are explained as our own are: images inside texts, language models, encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rebus.explain import explain, methods_for
from rebus.inference.predictor import Predictor
from tiny_checkpoints import write_checkpoint, write_tokenizer
from tiny_seeing import write_seeing


@pytest.mark.parametrize(("kind", "side"), [("idefics3", 6), ("llava siglip", 6)])
def test_images_inside_texts(tmp_path: Path, kind: str, side: int) -> None:
    write_seeing(tmp_path, kind)
    predictor = Predictor.open(tmp_path)
    able = methods_for(predictor, "converse")
    assert {"relevance", "rollout", "attention", "gradients", "occlusion"} <= set(able)
    image = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    maps = {}
    for method in ("relevance", "rollout", "attention", "occlusion"):
        found = explain(predictor, image=image, text="What is this? 这是什么？", task="converse", method=method)
        assert found.words
        assert found.image is not None
        assert np.isfinite(found.image).all()
        assert np.ptp(found.image) > 0
        assert found.image.shape == ((3, 3) if method == "attention" and kind == "idefics3" else (side, side))
        assert "".join(token.text for token in found.tokens) == "Whatisthis?这是什么？"
        maps[method] = found.image
    assert not np.allclose(maps["relevance"] / maps["relevance"].max(), maps["rollout"] / maps["rollout"].max())


def test_a_language_model_goes_on_from_its_prompt(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    write_tokenizer(tmp_path)
    predictor = Predictor.open(tmp_path)
    found = explain(predictor, text="The cat sat", task="lm", method="relevance")
    assert [token.text for token in found.tokens] == ["The", "cat", "sat"]
    assert found.image is None
    assert found.words
    again = explain(predictor, text="The cat sat", task="lm", method="occlusion", target=1)
    assert again.target == found.words[0].target
    assert again.score == pytest.approx(found.words[0].score, rel=1e-4)
