"""The GMVAE by itself, without translation (`kind: gmvae`): clustering and generation with a mixture of Gaussians.

Dilokthanakul et al. 2016 (arXiv:1611.02648) in the form of the public implementations: q(y|x) Gumbel-softmax,
q(z|x,y), a learned p(z|y), p(x|z); and the terms that keep its components in use.
"""
