"""Pretext tasks: self-supervised pretraining of a network on images without labels."""
