"""Models, losses, metrics and translation in pure PyTorch."""
