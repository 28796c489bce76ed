"""Image stacks and star files for RELION."""
