"""One command by processes on several hosts, each with a part of the work.

What they train needs nothing of one another, so JAX's backend stays each process's own and no
program spans them: jax.distributed, which tells a process its number, notices that another one is
gone and lets all end together, lives in a small process beside each (host_link.py).
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from absl import flags

from experiments.command_line import FLAGS
from experiments.messages import say
from experiments.signals import stopping
from offrl_jax.outcomes import Stopped
from offrl_jax.types import InputError

flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0, to share the work among several; auto: as Slurm or Kubernetes say",
)
flags.DEFINE_integer("num_processes", None, "how many share it, if coordinator is not auto", 1)
flags.DEFINE_integer("process_id", None, "which of them this is, from 0", 0)
flags.DEFINE_integer("initialization_timeout", 300, "seconds to wait for all of them to start", 1)

OWN = "process_id", "coordinator"  # flags that may differ between processes
POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Place:
    """Which of the processes this is.

    Attributes:
      process_id: From 0.
      num_processes: Of the job.
      is_alone: Whether another one is gone.
      begin: To be called when training begins: from there on it is said when another one is gone.
    """

    process_id: int = 0
    num_processes: int = 1
    is_alone: Callable[[], bool] = lambda: False
    begin: Callable[[], None] = lambda: None

    def wait(self, is_over: Callable[[], bool], stop: Callable[[], bool]) -> None:
        """Returns when it is over.

        Raises:
          Stopped: if asked to stop, or another process is gone.
        """
        while not is_over():
            if stop():
                raise Stopped("stopped with its own part done; the same command goes on")
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def joined() -> Iterator[Place]:
    """The place of this process among those that the flags speak of, which all begin the block
    together and end it together.

    Raises:
      InputError: if they cannot be found, or were given other flags.
      Stopped: if asked to before all have come; at the end, if another one is gone.
    """
    _check_flags()
    if FLAGS.coordinator is None:
        yield Place()
        return
    told = {name: v for name, v in FLAGS.flag_values_dict().items() if name not in OWN}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    number = (str(FLAGS.num_processes), str(FLAGS.process_id))
    link = subprocess.Popen(
        [sys.executable, "-m", "experiments.host_link", FLAGS.coordinator, *number, digest],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # JAX ends a process with a stack trace when another is gone
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        text=True,
        start_new_session=True,  # Ctrl-C is for this process
    )
    lines: queue.Queue[str] = queue.Queue()
    gone, training, ending = threading.Event(), threading.Event(), threading.Event()

    def listen() -> None:
        said = (line for line in link.stdout if line.startswith("{"))  # gloo prints there too
        lines.put(next(said, ""))
        link.stdout.read()
        gone.set()
        training.wait()  # a process that is refused says why, and nothing of chunks
        if not ending.is_set():
            say("another process of this job is gone: stopping when this chunk is done and saved")

    threading.Thread(target=listen, daemon=True).start()
    try:
        place = _place(lines)
        yield Place(place["process_id"], place["num_processes"], gone.is_set, training.set)
        ending.set()
        with contextlib.suppress(OSError):  # it is gone
            link.stdin.write("end\n")
            link.stdin.flush()
        if link.wait() != 0:
            raise Stopped("another process of this job was gone before the end; start all again")
    finally:
        ending.set()
        link.kill()
        link.wait()


def _check_flags() -> None:
    """Raises InputError unless the flags speak of a place, or of none."""
    count, i = FLAGS.num_processes, FLAGS.process_id
    has_count, has_address = count is not None, FLAGS.coordinator not in (None, "auto")
    if not has_address == has_count == (i is not None):
        raise InputError(
            f"coordinator={FLAGS.coordinator}, num_processes={count} and process_id={i} do not go "
            "together; give all three, or --coordinator=auto alone, or none"
        )
    if has_address:
        host, _, port = FLAGS.coordinator.rpartition(":")
        if not (host.strip() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
            raise InputError(
                f"coordinator={FLAGS.coordinator} is no address of process 0; give HOST:PORT, with "
                "a port from 1 to 65535"
            )
    if has_count and i >= count:
        raise InputError(f"process_id={i} of num_processes={count}; they count from 0")


def _place(lines: queue.Queue[str]) -> dict:
    """What the link says first.

    Raises:
      InputError: if it says nothing in time, or nothing good.
      Stopped: if asked to.
    """
    wanted = "" if FLAGS.num_processes is None else f"{FLAGS.num_processes} "
    where = f"the {wanted}processes at coordinator={FLAGS.coordinator}"
    say(f"waiting for {where}, for at most {FLAGS.initialization_timeout} s")
    deadline = time.monotonic() + FLAGS.initialization_timeout
    with stopping(when="soon") as stop:
        while lines.empty() and not stop() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    if stop():
        raise Stopped("stopped before all processes had come; start all again")
    if lines.empty():
        raise InputError(
            f"{where} did not all come within --initialization_timeout="
            f"{FLAGS.initialization_timeout} s; start all of them, with an address of the first "
            "that the others reach, or give a longer time"
        )
    place = json.loads(lines.get() or '{"error": "the connection broke off"}')
    if "error" in place:
        advice = (
            "give --coordinator=HOST:PORT, --num_processes and --process_id"
            if FLAGS.coordinator == "auto"
            else "perhaps another program has that port on the host of process 0; give all another"
        )
        raise InputError(f"{where} cannot be joined ({place['error']}); {advice}")
    if place["given_others"]:
        raise InputError(
            f"process {place['given_others'][0]} was given other flags than process 0; start all "
            "with the same but for --process_id"
        )
    if place["cuda_devices"] != "all":
        jax.config.update("jax_cuda_visible_devices", place["cuda_devices"])
    return place
