"""Commands that are no stages: they set a project up, or use what the stages wrote."""
