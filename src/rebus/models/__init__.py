"""Towers, fusions and the whole model: tensors in, Features and outputs out; no tables, tokenizers, loops or files."""
