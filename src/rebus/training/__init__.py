"""Recipe and data in, a finished Run out."""
