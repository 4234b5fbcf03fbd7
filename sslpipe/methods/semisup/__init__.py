"""Few labels and many images → a classifier."""
