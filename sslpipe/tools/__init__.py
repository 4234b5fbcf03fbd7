"""What is done with a project and its models beside the pipeline: setting it up, and taking its models home."""
