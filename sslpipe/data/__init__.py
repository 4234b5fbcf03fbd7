"""The image store and the batches drawn from it."""
