"""The nouns that every floor shares."""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

try:
    from jaxtyping import Array, Bool, Float, Int
except ImportError:  # shapes are documentation where jaxtyping is absent: the core needs it not
    from jax import Array

    class Float:
        def __class_getitem__(cls, shape):
            return Array

    Bool = Int = Float

__all__ = [
    "Array",
    "Bool",
    "Float",
    "InputError",
    "Int",
    "Key",
    "Metrics",
    "Scalar",
    "Spec",
    "Transition",
    "did_you_mean",
]

Key = jax.Array
Scalar = float | Float[Array, ""]  # a setting: a number, or a traced one
Metrics = dict[str, Array]


class InputError(ValueError):
    """Unusable input, in one sentence: what was given, why it is wrong, what to do."""

    def __init__(self, sentence: str):
        super().__init__(" ".join(sentence.splitlines()))  # others' words may hold lines


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest one, if any is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class Transition(NamedTuple):
    """A batch of transitions, scaled as the learner sees them: actions in [-1, 1], or one-hot where
    they are discrete, A being their number."""

    observation: Float[Array, "*B O"]
    action: Float[Array, "*B A"]
    reward: Float[Array, "*B"]
    next_observation: Float[Array, "*B O"]
    terminal: Float[Array, "*B"]  # 1 at a true end, 0 at a time-out: time-outs bootstrap
    next_action: Float[Array, "*B A"]  # the data's own action at next_observation
    next_action_valid: Float[Array, "*B"]  # 0 where the episode ends and no next action exists
    return_to_go: Float[Array, "*B"]  # discounted, to the end of the episode as recorded

    def __repr__(self) -> str:
        shapes = (f"{name} {getattr(x, 'shape', x)}" for name, x in self._asdict().items())
        return f"Transition({', '.join(shapes)})"


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a task besides its arrays. Hashable: part of the jit key.

    Attributes:
      observation_size: O, the width of a flattened observation.
      action_size: A, the width of an action or the number of discrete ones.
      action_low: The environment's lower action bounds, A numbers; of one-hot rows 0.
      action_high: The environment's upper action bounds, A numbers; of one-hot rows 1.
      discrete: Whether the environment's actions are the indices 0 to A − 1.
      name: How the user named the dataset.
      env_id: Registered Gymnasium id of the evaluation environment, if there is one.
      env_kwargs: Its keyword arguments, as JSON.
      max_episode_steps: Its time limit, if it differs from the registered one.
      observation_keys: Entries of a Dict observation in the order of concatenation; empty for Box.
      reference_scores: Mean undiscounted returns that score 0 and 100, if known.
      fingerprint: SHA-256 of the untransformed arrays.
      env_entry_point: Code ("module:Class") that makes an environment of no registered id, only
        where the user trusts the data; empty where they name some that is not trusted.
    """

    observation_size: int
    action_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    discrete: bool = False
    name: str = "arrays"
    env_id: str | None = None
    env_kwargs: str = "{}"
    max_episode_steps: int | None = None
    observation_keys: tuple[str, ...] = ()
    reference_scores: tuple[float, float] | None = None
    fingerprint: str = ""
    env_entry_point: str | None = None

    def bare(self) -> "Spec":
        """What programs depend on, so that data of the same sizes and bounds share them."""
        sizes = self.observation_size, self.action_size
        return Spec(*sizes, self.action_low, self.action_high, self.discrete)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"env_kwargs": json.loads(self.env_kwargs)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Spec":
        """The spec that a file describes, without its trust: no file gives code to run."""
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        entry_point = None if fields.get("env_entry_point") is None else ""
        return cls(
            **fields
            | {"env_kwargs": json.dumps(fields["env_kwargs"]), "env_entry_point": entry_point}
        )
