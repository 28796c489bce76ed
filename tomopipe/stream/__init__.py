"""A scan through the engine within a memory: read ahead, correct, compute, write behind."""
