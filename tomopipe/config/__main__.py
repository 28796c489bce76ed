"""Write config/config.yaml and config/README.md: python -m tomopipe.config."""

from pathlib import Path

from tomopipe.config.document import documented_defaults, documented_keys

folder = Path(__file__).parents[2] / "config"
(folder / "config.yaml").write_text(documented_defaults(), encoding="utf-8")
(folder / "README.md").write_text(documented_keys(), encoding="utf-8")
