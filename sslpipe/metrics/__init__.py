"""Scores of a grouping or a classification against labels."""
