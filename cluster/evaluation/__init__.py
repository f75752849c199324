"""Measuring a translator on test images: `images` in, `measure`, then `pictures` and `tables` out."""
