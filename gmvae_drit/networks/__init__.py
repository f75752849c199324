"""The networks of GMVAE-DRIT: encoders, mixture prior, generators, discriminators."""
