"""Pure functions from tensors to losses, one paper a file."""
