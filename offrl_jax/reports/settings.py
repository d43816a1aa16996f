"""The settings of a study's runs: which are the same study, and in what they differ."""

import json
from collections.abc import Mapping
from typing import Any

from offrl_jax.networks.serialization import from_json
from offrl_jax.networks.text import written
from offrl_jax.networks.values import NETWORKS
from offrl_jax.reports.recorded import RecordedRun
from offrl_jax.types import InputError

SEEDS = "seed", "num_seeds", "seed_batch"  # two runs that differ in these alone are pooled
LONG = 40  # characters of a label with its settings


def run_settings(run: RecordedRun) -> dict[str, Any]:
    """Settings by dotted names but for seeds, data and what repeats another."""
    left_out = {*SEEDS, "algorithm", "dataset"}
    settings = {k: v for k, v in run.settings.items() if k not in left_out}
    if isinstance(preset := settings.get("preset"), dict):
        settings["preset"] = {k: v for k, v in preset.items() if k not in ("config", "num_steps")}
        settings.pop("preprocessing", None)  # follows from it and the data
    if "discount" in run.settings["config"]:
        settings.pop("discount", None)
    return _flat(settings)


def labels(runs: Mapping[tuple[str, str, str], RecordedRun]) -> dict[tuple[str, str, str], str]:
    """By task, algorithm and settings: the algorithm with the settings in which its groups of one
    task differ, or a number in their place where they are many."""
    found = {}
    for algorithm in dict.fromkeys(key[1] for key in runs):
        own = {k: run_settings(run) for k, run in runs.items() if k[1] == algorithm}
        distinguishing = {
            name
            for k, settings in own.items()
            for other, others in own.items()
            if other[0] == k[0]
            for name in {*settings, *others}
            if settings.get(name) != others.get(name)
        }
        distinct = {k: {n: s[n] for n in sorted(distinguishing & s.keys())} for k, s in own.items()}
        words = {json.dumps(s): _words(s) for s in distinct.values()}
        if max(map(len, words.values())) > LONG or len(set(words.values())) < len(words):
            words = {text: f"setting {i + 1}" for i, text in enumerate(words)}
        found |= {k: f"{algorithm} {words[json.dumps(s)]}".rstrip() for k, s in distinct.items()}
    return found


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('.')[2]}={_short(v)}" for name, v in settings.items())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value).strip('"')


def _network_text(value: dict[str, Any]) -> str | None:
    """A network in a config's JSON as text; None if it has a class of the user's."""
    try:
        return written(from_json(value, NETWORKS, "config"))
    except InputError:
        return None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Flattens a dictionary to dotted names, with the library's networks as text."""
    if not isinstance(value, dict):
        return {name: value}
    if "module" in value and (text := _network_text(value)):
        return {name: text}
    prefix = f"{name}." if name else ""
    return {k: v for key, child in value.items() for k, v in _flat(child, prefix + key).items()}
