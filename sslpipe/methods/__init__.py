"""Methods: each module has the settings and the losses of one method, and is found by its name."""
