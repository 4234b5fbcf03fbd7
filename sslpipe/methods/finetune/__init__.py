"""A model → a classifier of its features, or its last touches."""
