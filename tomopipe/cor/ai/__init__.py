"""The network that weighs all evidence, in NumPy; only `dinov2` needs torch, when it is used."""
