"""Decoders as the engine runs them: as they are, in a layout that suits writing, and in compiled code."""

from rebus.generation.decoders.backend import DecoderBackend, supported
from rebus.generation.decoders.compiled import fast
from rebus.generation.decoders.eager import EagerDecoder

__all__ = ["DecoderBackend", "EagerDecoder", "fast", "supported"]
