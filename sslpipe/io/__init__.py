"""Settings, files between stages, and what a person reads: errors and progress."""
