"""Text to ids and back, without any tensor: normalisation, the tokenizer, words, the chat template."""
