"""A worker that the driver can start without torch: batch 1 works, 2 fails, 3 dies, 4 hangs, 5 runs out of time."""
import json
import os
import sys
import time

print(json.dumps({"version": "9"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    batch = request["candidate"]["batch"]
    answer = {"status": "ok", "rows": batch, "steps": [0.5] + [0.25] * (request["output"] - 1), "load_seconds": 0.1}
    if batch == 2:
        answer = {"status": "failed", "rows": None, "steps": [], "why": "out of GPU memory"}
    elif batch == 3:
        os.abort()
    elif batch == 4:
        time.sleep(60)
    elif batch == 5:
        answer.update(status="cut", steps=[0.5, 0.25], why="out of time after 2 tokens")
    print(json.dumps(answer), flush=True)
