"""Register volumes in SciCat: `hooks: {on_scan: python scicat.py https://scicat.example OWNER}`.

The token of SciCat's user is in the environment: SCICAT_TOKEN.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

facts, (server, owner) = json.load(sys.stdin), sys.argv[1:]
if facts["event"] != "volume":
    sys.exit()
volume = Path(facts["volume"])
dataset = {
    "type": "derived", "datasetName": facts["scan"], "sourceFolder": str(volume.parent),
    "owner": owner, "ownerGroup": owner, "contactEmail": f"{owner}@beamline.example",
    "investigator": owner, "inputDatasets": [facts["path"]], "usedSoftware": ["tomopipe"],
    "creationTime": facts["at"], "jobParameters": {"cor_px": facts["cor_px"]},
    "scientificMetadata": {key: facts[key] for key in ("cor_px", "confidence", "pixel_size_um")},
}  # fmt: skip
token = f"Bearer {os.environ['SCICAT_TOKEN']}"
headers = {"Content-Type": "application/json", "Authorization": token}
url = f"{server}/api/v3/datasets"
request = urllib.request.Request(url, json.dumps(dataset).encode(), headers)
urllib.request.urlopen(request, timeout=20).close()
