"""Search for the nearest images in feature space."""
