"""Files written whole or not at all, with their checksums, by whoever has the right to."""
