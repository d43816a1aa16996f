"""Checks of algorithms, networks and datasets, for your own tests.

Each check works on small random data and raises AssertionError with one sentence.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.algorithms.base import Algorithm, Phase, phases_of
from offrl_jax.config import stack, validate
from offrl_jax.data import Dataset, dataset_from_arrays, sample
from offrl_jax.learner import init, learn
from offrl_jax.networks import values
from offrl_jax.networks.heads import critic_values, init_critics, init_outputs, outputs
from offrl_jax.networks.modules import MLP, requires_action
from offrl_jax.types import Key, Spec, Transition

NUM_STEPS, NUM_SEEDS = 2, 2  # of all checks, so that they share their compiled programs
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}  # a batched product sums in another order
NUM_OBSERVATIONS = 6


def check_algorithm(algorithm: Algorithm, config: Any = None) -> None:
    """Checks all that training, sweeps, checkpoints and evaluation rely on; takes seconds to a
    minute.

    Args:
      algorithm: Yours, registered or not.
      config: Settings to check with; None takes the defaults with small networks and batches.

    Raises:
      AssertionError: what of the contract is broken.
      InputError: if a default of the config is outside of its own range, or the phases are wrong.
    """
    check_config(algorithm)
    config = small_config(algorithm) if config is None else config
    dataset = random_dataset(discrete=algorithm.discrete(config))
    watched, traces = counting_traces(algorithm)
    checks = (check_update, check_training, check_chunks, check_seeds, check_settings)
    for check in (*checks, check_donation, check_act, check_values):
        check(watched, config, dataset)
    check_traces(watched, config, dataset, traces)


def check_dataset(dataset: Dataset) -> None:
    """Checks what algorithms rely on: shapes and types, finite numbers, actions in [−1, 1] or
    one-hot, flags of 0 and 1, and episodes counted from 0 in order.

    Raises:
      AssertionError: what is wrong, in which field.
    """
    name, spec, size = dataset.spec.name, dataset.spec, len(dataset)
    widths = {"observation": spec.observation_size, "action": spec.action_size}
    for field, array in dataset.transitions._asdict().items():
        width = widths.get(field.removeprefix("next_"))
        shape = (size,) if width is None else (size, width)
        what = f"{field} of {name}"
        _check(array.shape == shape, f"{what} has shape {array.shape}, not {shape}")
        _check(array.dtype == jnp.float32, f"{what} is {array.dtype}, not float32")
        _check(np.isfinite(array).all(), f"{what} is not finite everywhere")
    rows = dataset.transitions
    for field in ("terminal", "next_action_valid"):
        values = np.unique(getattr(rows, field))
        _check(np.isin(values, (0, 1)).all(), f"{field} of {name} holds other numbers than 0 and 1")
    if spec.discrete:
        is_one_hot = (np.sort(rows.action, axis=1)[:, :-1] == 0).all() and np.all(
            np.max(rows.action, axis=1) == 1
        )
        _check(is_one_hot, f"actions of {name} are discrete but not one-hot")
    else:
        _check((np.abs(rows.action) <= 1).all(), f"actions of {name} leave [−1, 1]")
    jumps = np.diff(dataset.episode, prepend=0)
    _check(
        dataset.episode.shape == (size,) and np.isin(jumps, (0, 1)).all(),
        f"episodes of {name} are not counted from 0 in order",
    )


def check_network(network: Any, *, spec: Spec | None = None) -> None:
    """Checks that a network can be a setting: it compares by value, has only parameters, and maps
    each state, with one or several actions, to one finite vector that depends on no other row.

    Args:
      network: A Linen module.
      spec: Sizes of observations and actions; by default 5 and 3.

    Raises:
      AssertionError: if two copies differ, outputs are not finite, or outputs depend on other rows.
      InputError: if a field is not a number, string, tuple or module, the module has variables that
        are not parameters, or the output has a wrong shape.
    """
    values.check_network("network", network)
    name, spec = type(network).__name__, spec or random_dataset().spec
    again = network.copy()
    _check(
        again == network and hash(again) == hash(network),
        f"two {name} modules with equal fields are not equal; each run would compile anew",
    )
    observation_key, action_key, key = jax.random.split(jax.random.key(7), 3)
    observation = jax.random.normal(observation_key, (NUM_OBSERVATIONS, spec.observation_size))
    action = jax.random.uniform(action_key, (NUM_OBSERVATIONS, 4, spec.action_size), minval=-1)
    if not requires_action(network):
        params = jax.jit(init_outputs, static_argnums=(0, 1))(network, 2, key, observation)
        found = outputs(network, params, observation)
        _check(
            found.shape == (NUM_OBSERVATIONS, 2),
            f"outputs of {name} for states have shape {found.shape}",
        )
        each = jnp.stack([outputs(network, params, row[None])[0] for row in observation])
        _check_close(f"outputs of {name} for several states", found, each)
    critic = jax.jit(init_critics, static_argnums=(0, 1, 2))(network, 2, spec.bare(), key)
    several = critic_values(network, critic, observation, action)
    shape = 2, NUM_OBSERVATIONS, action.shape[1]
    _check(several.shape == shape, f"values of {name} have shape {several.shape}, not {shape}")
    one_by_one = [critic_values(network, critic, observation, a) for a in action.swapaxes(0, 1)]
    _check_close(f"values of {name} for several actions", several, jnp.stack(one_by_one, axis=-1))


def small_config(algorithm: Algorithm, **settings: Any) -> Any:
    """The default config with two layers of 16 units in each MLP, small batches and short phases
    (fields named `num_*_steps`). The given settings override these."""
    defaults = algorithm.Config()
    small = {}
    for field in dataclasses.fields(defaults):
        if field.name == "batch_size":
            small[field.name] = 8
        elif values.is_network(field) and isinstance(field.default, MLP):
            small[field.name] = field.default.copy(hidden_sizes=(16, 16))
        elif field.type is int and field.name.startswith("num_") and field.name.endswith("_steps"):
            small[field.name] = min(1, getattr(defaults, field.name))
    return dataclasses.replace(defaults, **small | settings)


def random_dataset(
    num_rows: int = 240,
    *,
    observation_size: int = 5,
    action_size: int = 3,
    discrete: bool = False,
    seed: int = 0,
) -> Dataset:
    """Noise in episodes of 20 steps, every other one of which ends in a true end."""
    rng = np.random.default_rng(seed)
    end = np.arange(1, num_rows + 1) % 20 == 0
    odd = np.arange(num_rows) // 20 % 2 == 1
    observation = rng.normal(size=(num_rows, observation_size))
    action = rng.uniform(-1, 1, (num_rows, action_size))
    return dataset_from_arrays(
        observation,
        action.argmax(1) if discrete else action,
        rng.normal(size=num_rows),
        end & odd,
        num_actions=action_size if discrete else None,
        timeout=end & ~odd,
        next_observation=observation + rng.normal(size=observation.shape),
    )


def counting_traces(algorithm: Algorithm) -> tuple[Algorithm, list[Callable]]:
    """The same algorithm, and a list to which each trace of one of its updates adds that update."""
    traces: list[Callable] = []

    @functools.cache
    def counting(update: Callable) -> Callable:
        def counted(config: Any, state: Any, batch: Transition, key: Key) -> Any:
            traces.append(update)
            return update(config, state, batch, key)

        return counted

    def phases(config: Any, update: Callable) -> list[Phase]:
        return [
            phase._replace(updates=tuple(map(counting, phase.updates)))
            for phase in phases_of(algorithm, config)
        ]

    return algorithm._replace(update=counting(algorithm.update), phases=phases), traces


def check_config(algorithm: Algorithm) -> None:
    """`Config` is a `@config` class whose defaults are valid and fields explained, and whose
    equal settings select the same program."""
    name, Config = algorithm.name, algorithm.Config
    is_config = dataclasses.is_dataclass(Config) and all(
        "help" in field.metadata for field in dataclasses.fields(Config)
    )
    _check(
        is_config,
        f"Config of {name} is not a @config class whose fields are setting(default, help)",
    )
    names = [field.name for field in dataclasses.fields(Config)]
    _check("batch_size" in names, f"Config of {name} has no batch_size")
    for field in dataclasses.fields(Config):
        _check(field.metadata["help"], f"config.{field.name} of {name} has no help")
    validate(Config())
    one, same = jax.tree.structure(Config()), jax.tree.structure(Config())
    try:
        is_same = one == same and hash(one) == hash(same)
    except TypeError as error:
        raise AssertionError(f"a setting of {name} is not hashable ({error})") from error
    _check(is_same, f"two default configs of {name} differ; each run would compile again")


def check_update(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Every update keeps the state's shapes and types and gives scalar metrics named part/what, a
    loss among them."""
    key, name = jax.random.key(7), algorithm.name
    state = init(algorithm, config, dataset.spec, key)
    _check(hasattr(state, "step"), f"the state of {name} has no step")
    is_counter = jnp.shape(state.step) == () and state.step.dtype == jnp.int32
    _check(is_counter, f"state.step of {name} is not an int32 scalar; begin with jnp.int32(0)")
    if algorithm.batch is None:
        batch = sample(dataset, key, config.batch_size)
    else:
        batch = algorithm.batch.sample(config, dataset, key)
    updates = {u for phase in phases_of(algorithm, config) for u in phase.updates}
    for update in {algorithm.update, *updates}:
        after, metrics = jax.eval_shape(
            lambda state, update=update: update(config, state, batch, key), state
        )
        _check(
            jax.tree.structure(after) == jax.tree.structure(state),
            f"an update of {name} gives a state of another structure",
        )
        for (path, new), old in zip(
            jax.tree_util.tree_leaves_with_path(after), jax.tree.leaves(state), strict=True
        ):
            where = f"{name}: state{jax.tree_util.keystr(path)}"
            _check(
                (new.shape, new.dtype) == (old.shape, old.dtype),
                f"{where} is {old.dtype}{list(old.shape)} but {new.dtype}{list(new.shape)} after "
                "an update",
            )
        for metric, value in metrics.items():
            _check(value.shape == (), f"metric {metric} of {name} has shape {value.shape}, not ()")
            _check("/" in metric, f"metric {metric} of {name} is not named part/what")
        has_loss = any(metric.endswith("/loss") for metric in metrics)
        _check(has_loss, f"an update of {name} reports no metric named part/loss")


def check_training(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Each update adds 1 to the step, and state and metrics are finite."""
    state, metrics = _trained(algorithm, config, dataset, jax.random.key(7))
    _check(
        state.step == NUM_STEPS,
        f"state.step of {algorithm.name} is {state.step} after {NUM_STEPS} updates",
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path((state, metrics)):
        where = jax.tree_util.keystr(path)
        _check(np.isfinite(leaf).all(), f"{algorithm.name}: {where} is not finite after training")


def check_chunks(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Training in chunks equals training at once, bit for bit."""
    key = jax.random.key(7)
    state = init(algorithm, config, dataset.spec, key)
    for _ in range(2):
        state, _ = learn(algorithm, config, dataset, state, key, num_steps=NUM_STEPS)
    whole, _ = _trained(algorithm, config, dataset, key, 2 * NUM_STEPS)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(whole), strict=True
    ):
        where = f"{algorithm.name}: state{jax.tree_util.keystr(path)}"
        _check(np.array_equal(a, b), f"{where} in two chunks differs from the same in one")


def check_seeds(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Seeds that train together equal runs by themselves, and differ from one another."""
    keys = jax.random.split(jax.random.key(7), NUM_SEEDS)
    together = _trained(algorithm, config, dataset, keys)
    for i in range(NUM_SEEDS):
        alone = _trained(algorithm, config, dataset, keys[i])
        _check_close(f"{algorithm.name}: seeds at once", _one(together, i), alone)
    loss = next(v for k, v in together[1].items() if k.endswith("/loss"))
    _check(loss[0] != loss[1], f"{algorithm.name}: two seeds have the same loss; is a key unused?")


def check_settings(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Settings of every float field that train together equal runs by themselves."""
    settings = config, scaled(config, 0.9)
    keys = jax.random.split(jax.random.key(7), (2, NUM_SEEDS))
    together, _ = _trained(algorithm, stack(settings), dataset, keys)
    for h, setting in enumerate(settings):
        alone, _ = _trained(algorithm, setting, dataset, keys[h])
        _check_close(f"{algorithm.name}: settings at once", _one(together, h), alone)


def check_traces(
    algorithm: Algorithm, config: Any, dataset: Dataset, traces: list[Callable]
) -> None:
    """One trace serves every float setting; `algorithm` and `traces` are of `counting_traces`."""
    key = jax.random.key(7)
    for factor in (1.0, 0.9, 0.8):
        setting = scaled(config, factor)
        state = init(algorithm, setting, dataset.spec, key)
        for _ in range(2):
            state, _ = learn(algorithm, setting, dataset, state, key, num_steps=NUM_STEPS)
        if factor == 1.0:
            traces.clear()
    _check(not traces, f"{algorithm.name} is traced again for another float setting")


def check_donation(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """The state's buffers are reused: no two leaves share one."""
    key = jax.random.key(7)
    state = init(algorithm, config, dataset.spec, key)
    learn(algorithm, config, dataset, state, key, num_steps=NUM_STEPS)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        where = f"{algorithm.name}: state{jax.tree_util.keystr(path)}"
        _check(leaf.is_deleted(), f"{where} is copied in each call; its type or shape changes")


def check_act(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Actions have the task's shape and range, and the mode needs no key and is always the same."""
    key, spec, name = jax.random.key(7), dataset.spec, algorithm.name
    state = init(algorithm, config, spec, key)
    observation = 100 * jax.random.normal(key, (NUM_OBSERVATIONS, spec.observation_size))
    act = jax.jit(algorithm.act)
    for act_key in (None, key):
        action = np.asarray(act(config, state, observation, act_key))
        shape = NUM_OBSERVATIONS, spec.action_size
        _check(action.shape == shape, f"actions of {name} have shape {action.shape}, not {shape}")
        _check((np.abs(action) <= 1).all(), f"actions of {name} leave [−1, 1]")
        if spec.discrete:
            is_one_hot = (np.sort(action, axis=1) == np.eye(spec.action_size)[-1]).all()
            _check(is_one_hot, f"discrete actions of {name} are not one-hot")
    if algorithm.chunk is not None:
        for act_key in (None, key):
            chunk = np.asarray(algorithm.chunk(config, state, observation, act_key))
            is_chunk = chunk.ndim == 3 and chunk.shape[::2] == shape and (np.abs(chunk) <= 1).all()
            _check(is_chunk, f"chunks of {name} are not (B, h, A) in [−1, 1]")
    once, again = (np.asarray(act(config, state, observation, None)) for _ in range(2))
    _check(np.array_equal(once, again), f"the mode of {name} differs from call to call")


def check_values(algorithm: Algorithm, config: Any, dataset: Dataset) -> None:
    """Values are one number an observation, and Q-values of several actions those of each."""
    key, spec, name = jax.random.key(7), dataset.spec, algorithm.name
    state = init(algorithm, config, spec, key)
    observation = jax.random.normal(key, (NUM_OBSERVATIONS, spec.observation_size))
    if algorithm.value is not None:
        shape = jax.eval_shape(algorithm.value, config, state, observation).shape
        _check(shape == (NUM_OBSERVATIONS,), f"value of {name} has shape {shape}, not (B,)")
        _check(hasattr(config, "discount"), f"{name} has a critic, but its Config no discount")
    if algorithm.q_values is not None:
        num = 4
        shape = NUM_OBSERVATIONS, num, spec.action_size
        action = jax.random.uniform(key, shape, minval=-1)
        q_values = jax.jit(algorithm.q_values)
        several = q_values(config, state, observation, action)
        one_shape = (several.shape[0], NUM_OBSERVATIONS)
        each = [q_values(config, state, observation, action[:, j]) for j in range(num)]
        _check(
            several.shape == (*one_shape, num) and all(q.shape == one_shape for q in each),
            f"q_values of {name} have shapes {each[0].shape} of one action and {several.shape} of "
            f"{num}, not (E, B) and (E, B, {num})",
        )
        _check_close(f"q_values of {name} of several actions", several, jnp.stack(each, axis=-1))


def scaled(config: Any, factor: float) -> Any:
    """The config with every float field multiplied, as far as its range allows."""
    changed = {}
    for field in dataclasses.fields(config):
        if field.type is float:
            value = factor * getattr(config, field.name)
            changed[field.name] = min(max(value, field.metadata["low"]), field.metadata["high"])
    return dataclasses.replace(config, **changed)


def _trained(
    algorithm: Algorithm, config: Any, dataset: Dataset, key: Key, num_steps: int = NUM_STEPS
) -> tuple[Any, Any]:
    state = init(algorithm, config, dataset.spec, key)
    return learn(algorithm, config, dataset, state, key, num_steps=num_steps)


def _one(tree: Any, index: int) -> Any:
    """One run of a batch of runs."""
    return jax.tree.map(lambda x: np.asarray(x)[index], tree)


def _check_close(what: str, actual: Any, expected: Any) -> None:
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        where = f"{what}{jax.tree_util.keystr(path)}"
        _check(np.allclose(a, b, **TOLERANCE), f"{where} differ from runs by themselves")


def _check(is_kept: Any, sentence: str) -> None:
    """As `assert`, which Python leaves out with -O."""
    if not is_kept:
        raise AssertionError(sentence)
