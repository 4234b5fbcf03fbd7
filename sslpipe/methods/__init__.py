"""How a batch becomes a loss: settings and one method a file, found by its name."""
