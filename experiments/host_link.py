"""A process's link to the others of a job, a small program of its own beside it (see hosts.py).

It joins them by jax.distributed, compares by a collective (gloo) that all were given the same
flags, says who it is in one line of JSON, and stays until it reads "end", then for the others to
say so as well. It ends with an error as soon as JAX's coordination service misses one of them, and
at once, also while it waits for them to come, if the process that started it goes before "end".
"""

import json
import os
import signal
import sys
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils

FOREVER = 10**6  # seconds; whoever started this gives up earlier


def main(coordinator: str, num_processes: str, process_id: str, digest: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # for the process beside it to heed
    ended = threading.Event()
    threading.Thread(target=_listen, args=(ended,), daemon=True).start()
    given = {}
    if coordinator != "auto":
        given = {
            "coordinator_address": coordinator,
            "num_processes": int(num_processes),
            "process_id": int(process_id),
            "cluster_detection_method": "deactivate",  # it would give a process one device
        }
    try:
        jax.distributed.initialize(**given, initialization_timeout=FOREVER)
        digests = multihost_utils.process_allgather(np.frombuffer(bytes.fromhex(digest), np.uint8))
    except Exception as error:
        print(json.dumps({"error": str(error)}), flush=True)
        os._exit(1)
    digests = digests.reshape(jax.process_count(), -1)
    others = np.flatnonzero((digests != digests[0]).any(1)).tolist()
    place = {
        "process_id": jax.process_index(),
        "num_processes": jax.process_count(),
        # A cluster may give it some of them.
        "cuda_devices": jax.config.values["jax_cuda_visible_devices"],
        "given_others": others,
    }
    print(json.dumps(place), flush=True)
    ended.wait()
    jax.distributed.shutdown()


def _listen(ended: threading.Event) -> None:
    """Leaves at once unless "end" is what comes."""
    if sys.stdin.readline() != "end\n":
        os._exit(1)
    ended.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
