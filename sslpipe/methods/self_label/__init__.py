"""Training on the labels a model gives itself."""
