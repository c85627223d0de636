"""Health check of the Triton container: exit code 0 only if the canary model echoes the values that it is sent.

The script imports the standard library alone. TRITON_HTTP_URL: the server, http://127.0.0.1:8000 by default.
TRITON_KEY_FILE: file with the server's key, /run/secrets/triton_key by default. Without it HTTP answers health alone.
"""

import json
import os
import secrets
import sys
import urllib.request
from pathlib import Path

base = os.environ.get("TRITON_HTTP_URL", "http://127.0.0.1:8000")
# several values, because a broken numpy in the server repeats the first value
sent = [secrets.randbits(31) for _ in range(4)]
request = {"inputs": [{"name": "PING", "datatype": "INT64", "shape": [4], "data": sent}]}
try:
    key = Path(os.environ.get("TRITON_KEY_FILE", "/run/secrets/triton_key")).read_text().strip()
    body = json.dumps(request).encode()
    asked = urllib.request.Request(f"{base}/v2/models/canary/infer", body, {"panther-key": key})
    # 127.0.0.1 must not go through a proxy of the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=4) as reply:
        got = json.load(reply)["outputs"][0]["data"]
except (OSError, ValueError, LookupError) as error:
    sys.exit(f"expected the canary at {base} to answer, but {error!r}; see the server's log")
if got != sent:
    sys.exit(f"the canary at {base} answered {got}, expected {sent}")
