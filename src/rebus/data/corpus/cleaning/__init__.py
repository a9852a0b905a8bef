"""What is left out of raw text or changed in it, and the counts of both."""
