#!/bin/sh
# Copy each volume to another place: hooks: {on_scan: sh copy.sh host:/archive, time_limit_s: 3600}
volume=$(python3 -c 'import json, sys
facts = json.load(sys.stdin)
print(facts["volume"] if facts["event"] == "volume" else "")')
[ -z "$volume" ] || exec rsync -a -- "$volume" "$1"/
