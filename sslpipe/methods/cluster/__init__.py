"""Clustering on mined neighbours."""
