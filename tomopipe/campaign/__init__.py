"""A campaign on disk: scans and files, the table that people edit, the state of each scan."""
