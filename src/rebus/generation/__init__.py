"""Writing text: ids in, ids out."""
