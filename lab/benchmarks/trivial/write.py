"""The script of every rule: write its files, tables with what its parameters say."""

import json
from pathlib import Path

job = globals()["snakemake"]
texts = {
    "results/inventory.tsv": "\n".join(getattr(job.params, "scans", ())),
    "results/cor.json": json.dumps(getattr(job.params, "cors", {})),
}
for path in map(str, [*job.output, *job.log]):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(texts.get(path, ""))
