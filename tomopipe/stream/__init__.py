"""Streaming a scan through the engine in bounded memory: read ahead, correct, compute, write."""
