"""From a recipe with blanks and what is known of the data to a recipe without."""
