"""Experiments: their configuration, and distributed training of them on Ray."""
