"""The loop and what it stands on: it knows nothing of tokenizers, tables or tasks; callables in, weights out."""
