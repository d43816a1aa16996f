"""Shows what a dataset holds, or which datasets there are, or writes one as shards.

  offrl datasets list
  offrl datasets show pointmaze/umaze
  offrl datasets show hopper_medium-v2.hdf5 --html=hopper.html --json=hopper.json
  offrl datasets shard hopper_medium-v2.hdf5 --output=hopper.shards

NAME is what offrl train takes as --dataset. The card goes to standard output; --html writes
it as one page with figures, --json with all numbers. Shards are a folder that is a dataset's name
too, whose rows training can leave on the disk.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from offrl_jax import data, environments
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.data import cache
from offrl_jax.data.card import card
from offrl_jax.data.sources import known
from offrl_jax.files import replacing, write_json
from offrl_jax.reports import dataset_card
from offrl_jax.types import InputError

flags.DEFINE_string("html", None, "file to write the card to as one HTML page")
flags.DEFINE_string("json", None, "file to write the card's numbers to")
flags.DEFINE_string("output", None, "folder to write shards to, ending in .shards")
flags.DEFINE_integer("rows_per_shard", 1_000_000, "transitions in each shard but the last", 1)
flags.DEFINE_string("env_id", None, "environment, where the data name none or another")
flags.DEFINE_list(
    "observation_keys", [], "entries of a Dict observation that make up the data's, in order"
)
flags.DEFINE_bool("clip_actions", False, "clip actions outside their bounds, counted in a warning")

OF_READING = "env_id", "observation_keys", "clip_actions"
OWN_FLAGS = {
    "list": (),
    "show": ("html", "json", *OF_READING),
    "shard": ("output", "rows_per_shard", *OF_READING),
}
USAGE = "give `list`, `show NAME` or `shard NAME` with a NAME as for --dataset of offrl train"


def main(*words: str) -> None:
    match words:
        case ("list",):
            _check_flags("list")
            print(_listing())
        case ("show", name):
            _check_flags("show")
            _show(name)
        case ("shard", name):
            _check_flags("shard")
            _shard(name)
        case _:
            asked = repr(" ".join(words)) if words else "nothing"
            raise InputError(f"{asked} was asked of the datasets; {USAGE}")


def _check_flags(command: str) -> None:
    """Raises InputError where a flag of another command is given."""
    for other, names in OWN_FLAGS.items():
        for name in names:
            if FLAGS[name].present and name not in OWN_FLAGS[command]:
                takes = ", ".join(f"--{own}" for own in OWN_FLAGS[command])
                raise InputError(
                    f"--{name} is of `{other} NAME`; `{command}` takes "
                    f"{takes or 'no flag of its own'}"
                )


def _listing() -> str:
    lines = ["known here (path of a file and ids of the Minari hub can be given as well):"]
    lines += [
        f"  {name}  {'in the cache' if cached else 'not in the cache yet'}"
        for name, cached in known().items()
    ]
    if (root := cache.root()) is not None and root.is_dir():
        entries = [path for path in root.iterdir() if (path / "fields.json").is_file()]
        size = sum(file.stat().st_size for entry in entries for file in entry.iterdir())
        lines.append(f"cache: {len(entries)} datasets, {size / 1e6:,.0f} MB in {root}")
    return "\n".join(lines)


def _show(name: str) -> None:
    outputs = [Path(path) for path in (FLAGS.html, FLAGS.json) if path]
    for path in outputs:
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"{path} cannot be written to; give a file in a folder that exists")
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError(f"--html and --json are both {outputs[0]}; give two files")
    if Path(name).resolve() in {path.resolve() for path in outputs}:
        raise InputError(f"the card of {name} would take the place of its data; give another file")
    with _warned() as warned:
        dataset = _loaded(name)
    found = card(dataset, environments.time_limit(dataset.spec))
    found["warnings"] += warned
    print(dataset_card.text(found))
    try:
        if FLAGS.json:
            write_json(Path(FLAGS.json), found)
        if FLAGS.html:
            with replacing(Path(FLAGS.html)) as partial:
                partial.write_text(dataset_card.page(found), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"the card cannot be written ({error}); give another file") from error


def _shard(name: str) -> None:
    if not FLAGS.output:
        raise InputError("--output is missing; give the path of a folder to make, NAME.shards")
    dataset = _loaded(name)
    path = data.shard(dataset, FLAGS.output, rows_per_shard=FLAGS.rows_per_shard)
    num_shards = -(-len(dataset) // FLAGS.rows_per_shard)
    print(
        f"{path}: {len(dataset):,} transitions in {num_shards:,} shards, fingerprint "
        f"{dataset.spec.fingerprint[:12]}"
    )


def _loaded(name: str) -> data.Dataset:
    return data.load_dataset(name, **{flag: FLAGS[flag].value for flag in OF_READING})


@contextlib.contextmanager
def _warned() -> Iterator[list[str]]:
    """Collects what is warned of in the meantime, for the card instead of standard error."""
    sentences = []

    class Collector(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            sentences.append(record.getMessage())
            return False

    collector, root = Collector(), logging.getLogger()
    for handler in root.handlers:
        handler.addFilter(collector)
    try:
        yield sentences
    finally:
        for handler in root.handlers:
            handler.removeFilter(collector)


if __name__ == "__main__":
    launch(main)
