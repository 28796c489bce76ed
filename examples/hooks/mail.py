"""Mail the end of a run: `hooks: {on_end: python mail.py ada@beamline.example}`."""

import json
import smtplib
import sys
from email.message import EmailMessage

facts = json.load(sys.stdin)
mail = EmailMessage()
mail["From"] = mail["To"] = sys.argv[1]
mail["Subject"] = f"{facts['campaign']}: run {facts['status']}, {facts['n_volumes']} volumes"
failed = [f"{job['step']} {job['name']}: {job['error']}" for job in facts["failures"]]
mail.set_content("\n".join(["To review:", *facts["to_review"], "", "Failed:", *failed]))
host, _, port = (sys.argv[2] if len(sys.argv) > 2 else "localhost").partition(":")
with smtplib.SMTP(host, int(port or 25), timeout=20) as server:
    server.send_message(mail)
