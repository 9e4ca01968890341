# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Exit status 0 if the printer of a moonraker.conf prints or is paused, or if
Moonraker is there and does not say; 1 if it does not print."""
import json
import re
import sys
import urllib.error
import urllib.request

try:
    with open(sys.argv[1], encoding="utf-8", errors="replace") as f:
        found = re.search(r"(?m)^port\s*[:=]\s*(\d+)", f.read())
    port = found[1] if found else "7125"
    url = f"http://127.0.0.1:{port}/printer/objects/query?print_stats=state"
    with urllib.request.urlopen(url, timeout=5) as answer:
        status = json.load(answer)["result"]["status"]
    state = status["print_stats"]["state"]
except urllib.error.HTTPError as e:
    # Without Klipper nothing is printed; but 401 says nothing.
    sys.exit(0 if e.code in (401, 403) else 1)
except (OSError, ValueError, KeyError, TypeError) as e:
    sys.exit(0 if isinstance(e, TimeoutError) else 1)
sys.exit(0 if state in ("printing", "paused") else 1)
