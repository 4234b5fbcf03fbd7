"""The image store, the splits and the batches of images."""
