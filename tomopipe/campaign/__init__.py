"""A campaign on disk: scans and files, the table that people edit, what is known of scans."""
