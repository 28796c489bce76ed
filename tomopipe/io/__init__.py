"""One module per file format: read_x(path), write_x(data, path)."""
