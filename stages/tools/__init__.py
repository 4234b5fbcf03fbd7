"""Commands outside the pipeline, which set up a project or use the outputs of the stages."""
