"""Self-supervised pretext tasks."""
