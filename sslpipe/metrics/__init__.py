"""Metrics of clusters, classifiers and features."""
