"""Collections as vectors, and what is near to a query."""
