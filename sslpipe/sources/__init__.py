"""Sources of images: one module per data set or kind of input."""
