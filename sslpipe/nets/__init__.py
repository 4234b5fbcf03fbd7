"""Backbones, heads, averaged weights, and the model files made of them."""
