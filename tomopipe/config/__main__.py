"""Write config/config.yaml and config/README.md: python -m tomopipe.config."""

from pathlib import Path

from tomopipe.config.document import write_documentation

write_documentation(Path(__file__).parents[2] / "config")
