"""Image files of any format → uint8 arrays of one size. Nothing here imports torch."""
