"""The reconstruction engine: arrays in, arrays out."""
