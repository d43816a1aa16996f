"""What a source read, before it is a `Dataset`."""

import logging
from typing import Any, NamedTuple

import numpy as np

from offrl_jax.data.arrays import dataset_from_arrays
from offrl_jax.data.dataset import Dataset


class Recording(NamedTuple):
    """The keyword arguments of `dataset_from_arrays`, those that JSON holds apart from the arrays.

    It is what the data say; what the user decides about them comes with `to_dataset`.
    """

    arrays: dict[str, np.ndarray]  # observation, action, reward, terminal, ...
    fields: dict[str, Any]  # action bounds and fields of Spec

    def to_dataset(
        self,
        name: str,
        *,
        discount: float = 0.99,
        clip_actions: bool = False,
        trust_dataset_env: bool = False,
    ) -> Dataset:
        """The dataset of that name; the other arguments are those of `load_dataset`."""
        if not {"timeout", "episode_end"} & set(self.arrays):
            logging.warning(
                "%s has no timeouts; its episodes are taken to end at terminals only", name
            )
        fields = self.fields
        if fields.get("env_entry_point") and not trust_dataset_env:
            fields = fields | {"env_entry_point": ""}
        return dataset_from_arrays(
            **self.arrays, **fields, name=name, discount=discount, clip_actions=clip_actions
        )
