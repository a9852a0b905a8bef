"""Run folders and checkpoints of other projects, in and out."""
