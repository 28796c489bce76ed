"""Files written whole or not at all, with checksums, by runs that have not ended."""
