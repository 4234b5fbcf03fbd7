"""Random views of a batch of images, drawn on the device with parameters per image."""
