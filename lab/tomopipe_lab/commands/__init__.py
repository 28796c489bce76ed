"""The commands that tomopipe gets by this distribution."""
