"""Hugging Face checkpoints: a class a family, with one name map read in both directions, and their configurations.

It knows no models: it renames tensors in dictionaries and reads safetensors files, never pickles.
"""

from rebus.formats import (  # noqa: F401 - each registers its families
    bert,
    dinov2,
    dual,
    efficientnet,
    gpt2,
    idefics3,
    llama,
    llava,
    qwen,
    resnet,
    vision,
    vit,
)
