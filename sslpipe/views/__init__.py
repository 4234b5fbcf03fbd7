"""Random views (augmented images) of a batch, computed on the device with random parameters for each image."""
