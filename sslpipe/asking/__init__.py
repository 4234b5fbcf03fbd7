"""Which images are worth a label: an order of questions with their reasons."""
