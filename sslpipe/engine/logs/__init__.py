"""Where the rows of a run in progress go besides its files: one class `Log` per module, chosen by `--log NAME`."""
