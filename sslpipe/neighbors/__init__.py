"""Search for the nearest neighbours of images in feature space, and what is computed from them."""
