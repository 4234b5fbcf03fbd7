"""Images with few or no labels, from pixels to groups to a classifier."""
