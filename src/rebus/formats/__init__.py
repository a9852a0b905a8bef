"""Hugging Face checkpoints: one name map a family, read in both directions, and their configurations.

It knows no models: it renames tensors in dictionaries and reads safetensors files, never pickles.
"""
