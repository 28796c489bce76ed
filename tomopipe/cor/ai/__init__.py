"""The learned judge of all evidence, in NumPy; here only `dinov2` needs torch, when it is used."""
