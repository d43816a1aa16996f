"""`offrl datasets list`, `show` and `shard`."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from offrl_jax import data, environments
from offrl_jax.cli.command_line import FLAGS
from offrl_jax.data import cache
from offrl_jax.data.card import card
from offrl_jax.data.sources import known
from offrl_jax.files import replacing, write_json
from offrl_jax.reports import dataset_card
from offrl_jax.types import InputError


def listing() -> str:
    lines = ["known datasets (paths of files and ids of the Minari hub work as well):"]
    lines += [
        f"  {name}  {'in the cache' if cached else 'not in the cache yet'}"
        for name, cached in known().items()
    ]
    if (root := cache.root()) is not None and root.is_dir():
        entries = [path for path in root.iterdir() if (path / "fields.json").is_file()]
        size = sum(file.stat().st_size for entry in entries for file in entry.iterdir())
        lines.append(f"cache: {len(entries)} datasets, {size / 1e6:,.0f} MB in {root}")
    return "\n".join(lines)


def show(name: str) -> None:
    outputs = [Path(path) for path in (FLAGS.html, FLAGS.json) if path]
    for path in outputs:
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"{path} cannot be written to; give a file in a folder that exists")
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError(f"--html and --json are both {outputs[0]}; give two files")
    if Path(name).resolve() in {path.resolve() for path in outputs}:
        raise InputError(f"the card of {name} would overwrite its data; give another file")
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


def shard(name: str) -> None:
    if not FLAGS.output:
        raise InputError("no output=… is given; give the path of a folder to make, NAME.shards")
    dataset = _loaded(name)
    path = data.shard(dataset, FLAGS.output, rows_per_shard=FLAGS.rows_per_shard)
    num_shards = -(-len(dataset) // FLAGS.rows_per_shard)
    print(
        f"{path}: {len(dataset):,} transitions in {num_shards:,} shards, fingerprint "
        f"{dataset.spec.fingerprint[:12]}"
    )


def _loaded(name: str) -> data.Dataset:
    return data.load_dataset(
        name,
        env_id=FLAGS.env_id,
        observation_keys=tuple(FLAGS.observation_keys),
        clip_actions=FLAGS.clip_actions,
    )


@contextlib.contextmanager
def _warned() -> Iterator[list[str]]:
    """Collects the warnings within the block for the card, instead of standard error."""
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
