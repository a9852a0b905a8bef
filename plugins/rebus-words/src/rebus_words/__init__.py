"""Word vectors for Rebus: a text tower and the reader before it."""
