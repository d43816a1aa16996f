"""Trained policies as durable files: npz weights beside a JSON description, nothing pickled; and as
programs that JAX runs without this package."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from offrl_jax import environments
from offrl_jax.algorithms import known
from offrl_jax.algorithms.base import Algorithm, named_in_file
from offrl_jax.config import validate
from offrl_jax.data.dataset import Preprocessing
from offrl_jax.data.optional import require
from offrl_jax.evaluation.rollouts import to_environment
from offrl_jax.files import replacing, write_json
from offrl_jax.networks.serialization import config_from_json, settings_to_json
from offrl_jax.networks.values import Networks, known_networks
from offrl_jax.runs.numpy_policy import acts_by
from offrl_jax.runs.trees import named_leaves
from offrl_jax.types import InputError, Spec

FORMAT = 2
PLATFORMS = ("cpu", "cuda", "tpu")


def save_policy(
    directory: str | Path,
    algorithm: Algorithm,
    config: Any,
    *,
    state: Any,
    spec: Spec,
    preprocessing: Preprocessing,
    diverged: Sequence[str | None] = (),
) -> None:
    """Writes `policy.json`, and `weights.npz` with only the arrays that acting reads.

    Args:
      directory: Made if absent.
      algorithm: The algorithm whose `act` uses the weights.
      config: The run's config.
      state: States with leading axis S.
      spec: The dataset's spec.
      preprocessing: The dataset's preprocessing; stored with the weights.
      diverged: For each seed, why it has no usable policy, or None.

    The description's `acts_by` says how to act with nothing but the weights, or is null.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    one_seed = jax.tree.map(lambda x: x[0], state)
    is_read = _read_by_act(algorithm, config, one_seed, spec)
    weights = {
        path: np.asarray(leaf)
        for (path, leaf), read in zip(named_leaves(state), is_read, strict=True)
        if read
    }
    statistics = {name: np.asarray(array) for name, array in preprocessing._asdict().items()}
    with replacing(directory / "weights.npz") as partial, partial.open("wb") as file:
        np.savez(file, **weights, **statistics)
    description = {
        "format": FORMAT,
        "algorithm": algorithm.name,
        "config": settings_to_json(config),
        "spec": spec.to_json(),
        "diverged": list(diverged),
        "acts_by": acts_by(algorithm, config, one_seed, spec, set(weights)),
    }
    write_json(directory / "policy.json", description)


class Policy:
    """A trained policy: maps an observation of the environment to an action in its bounds."""

    def __init__(
        self,
        algorithm: Algorithm,
        config: Any,
        state: Any,
        spec: Spec,
        preprocessing: Preprocessing,
    ):
        self.spec, self._name = spec, algorithm.name
        self._act = jax.jit(
            lambda observation: algorithm.act(
                config, state, preprocessing.normalize(observation), None
            )
        )

    def __repr__(self) -> str:
        size = self.spec.action_size
        action = f"one of {size} actions" if self.spec.discrete else f"action ({size},)"
        observation = f"observation ({self.spec.observation_size},)"
        return f"Policy({self._name} on {self.spec.name}: {observation} to {action})"

    def __call__(self, observation: Any) -> np.ndarray:
        """The deterministic action.

        Args:
          observation: One raw observation, (O,) or a Dict; or a batch of flat ones, (B, O).

        Returns:
          (A,) or (B, A), in the environment's own bounds; for discrete actions an index, or (B,)
          indices.

        Raises:
          InputError: if the observation is not an array of numbers, or has another shape or width
            than those that the policy was trained on.
        """
        if isinstance(observation, dict) and self.spec.observation_keys:
            observation = environments.flatten_observation(observation, self.spec.observation_keys)
        try:
            observation = np.atleast_1d(np.asarray(observation, np.float32))
        except (TypeError, ValueError) as error:
            raise InputError(f"the observation is not an array of numbers ({error})") from error
        if observation.ndim > 2:
            raise InputError(
                f"observations have shape {observation.shape}; give one, or a batch of flat ones"
            )
        if observation.shape[-1] != self.spec.observation_size:
            raise InputError(
                f"the observation has {observation.shape[-1]} numbers but this policy was trained "
                f"on {self.spec.observation_size}"
            )
        action = np.asarray(self._act(np.atleast_2d(observation)))
        return to_environment(action.reshape(*observation.shape[:-1], -1), self.spec)

    def export(self, path: str | Path) -> None:
        """Writes a program for `jax.export.deserialize` on `PLATFORMS`.

        It maps raw float32 observations (b, O), for any b, to actions (b, A) in the environment's
        bounds, or to indices (b,) of discrete actions. JAX promises that later versions load it for
        half a year; earlier ones do not. `weights.npz` beside `policy.json` lasts.

        Raises:
          InputError: if it cannot be written there, or flatbuffers, its format, is not installed.
        """
        require("flatbuffers", "a policy as a program for JAX")
        low, high = (
            jnp.asarray(bound, jnp.float32)[None]
            for bound in (self.spec.action_low, self.spec.action_high)
        )

        def act(observation: jax.Array) -> jax.Array:
            action = self._act(observation)
            if self.spec.discrete:
                return jnp.argmax(action, axis=-1)
            action = low + 0.5 * (action + 1.0) * (high - low)
            return jnp.clip(action, low, high)  # rounding may exceed the bounds

        shape = (*export.symbolic_shape("b"), self.spec.observation_size)
        exported = export.export(jax.jit(act), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
        try:
            with replacing(Path(path)) as partial:
                partial.write_bytes(exported.serialize())
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error}); give another file") from error


def load_policy(
    run_dir: str | Path,
    seed_index: int = 0,
    *,
    algorithm: Algorithm | None = None,
    networks: Networks | None = None,
) -> Policy:
    """The policy of a finished run.

    Args:
      run_dir: The run's directory, or its `policy` folder.
      seed_index: Which of the run's seeds, counted from 0.
      algorithm: What was trained, where it is not one of `ALGORITHMS`.
      networks: Your own network classes in it, by name.

    Raises:
      InputError: if there is no policy, it is of another format or algorithm, or the seed is not in
        it or diverged.
    """
    directory = Path(run_dir).expanduser()
    if (directory / "policy").is_dir():
        directory = directory / "policy"
    try:
        description = json.loads((directory / "policy.json").read_text())
        with np.load(directory / "weights.npz", allow_pickle=False) as file:
            arrays = dict(file)
        if description["format"] != FORMAT:
            raise InputError(
                f"{directory} was written by another version, in format {description['format']} "
                f"where this one reads {FORMAT}; read it with that version, or train again"
            )
        algorithm = named_in_file(description["algorithm"], known(algorithm), run_dir)
        fields, modules = description["config"], known_networks(networks)
        config = config_from_json(algorithm.Config, fields, modules, run_dir)
        validate(config)
        spec = Spec.from_json(description["spec"])
        preprocessing = Preprocessing(*(jnp.asarray(arrays.pop(f)) for f in Preprocessing._fields))
        template = jax.eval_shape(lambda key: algorithm.init(config, spec, key), jax.random.key(0))
        leaves = named_leaves(template)
        is_read = _read_by_act(algorithm, config, template, spec)
        num_seeds = min(len(array) for array in arrays.values())
    except InputError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        MemoryError,
        RecursionError,
        BadZipFile,
    ) as error:
        raise InputError(
            f"{run_dir} holds no policy that this version can read ({error!r}); "
            "give the directory of a finished run"
        ) from error

    if not 0 <= seed_index < num_seeds:
        raise InputError(f"seed_index={seed_index} but the run has seeds 0 to {num_seeds - 1}")
    if why := dict(enumerate(description.get("diverged", ()))).get(seed_index):
        raise InputError(f"seed_index={seed_index} of {run_dir} diverged ({why}); give another")
    width = (spec.observation_size,)
    wanted = {path: leaf.shape for (path, leaf), read in zip(leaves, is_read, strict=True) if read}
    found = {path: array[seed_index] for path, array in arrays.items()}
    wanted |= dict(zip(Preprocessing._fields, (width, width, (), ()), strict=True))
    found |= preprocessing._asdict()
    for path, shape in wanted.items():
        if path not in found or found[path].shape != shape or not np.isfinite(found[path]).all():
            raise InputError(
                f"the weights in {directory} have no finite {path} of shape {shape}; "
                "export the policy again with this version"
            )
    state = [jnp.asarray(found.get(path, np.zeros(x.shape, x.dtype))) for path, x in leaves]
    state = jax.tree.unflatten(jax.tree.structure(template), state)
    return Policy(algorithm, config, state, spec, preprocessing)


def _read_by_act(algorithm: Algorithm, config: Any, state: Any, spec: Spec) -> list[bool]:
    """For each leaf of the state, whether acting depends on it."""
    leaves, structure = jax.tree.flatten(state)
    observation = jnp.zeros((1, spec.observation_size))
    jaxpr = jax.make_jaxpr(
        lambda leaves: algorithm.act(config, structure.unflatten(leaves), observation, None)
    )(leaves)
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    return [id(variable) in read for variable in jaxpr.jaxpr.invars]
