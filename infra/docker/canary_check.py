"""Exit code 0 only if Triton's canary model echoes what it is sent. Standard library alone: it runs in the image.

TRITON_HTTP_URL: where the server is, http://127.0.0.1:8000 unless told otherwise.
"""

import json
import os
import secrets
import sys
import urllib.request

base = os.environ.get("TRITON_HTTP_URL", "http://127.0.0.1:8000")
sent = [secrets.randbits(31) for _ in range(4)]  # several: a broken numpy in the server repeats the first
request = {"inputs": [{"name": "PING", "datatype": "INT64", "shape": [4], "data": sent}]}
try:
    # 127.0.0.1 must not go through a proxy of the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{base}/v2/models/canary/infer", json.dumps(request).encode(), timeout=4) as reply:
        got = json.load(reply)["outputs"][0]["data"]
except (OSError, ValueError, LookupError) as error:
    sys.exit(f"expected the canary at {base} to answer, but {error!r}; see the server's log")
if got != sent:
    sys.exit(f"the canary at {base} answered {got}, expected {sent}")
