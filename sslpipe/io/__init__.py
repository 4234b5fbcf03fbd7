"""Settings, files of stages, error messages and progress."""
