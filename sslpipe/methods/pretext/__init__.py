"""What the pretext tasks share."""
