"""The only place where layers are written: attention, norms, feed-forward, rotary positions, convolution, cache."""
