"""Backbones, heads, averaged weights and model files."""
