"""What a source read, before it is a `Dataset`."""

from typing import Any, NamedTuple

import numpy as np

from offrl_jax.data.dataset import Dataset, from_arrays


class Recording(NamedTuple):
    """The keyword arguments of `from_arrays`, those that JSON holds apart from the arrays."""

    arrays: dict[str, np.ndarray]  # observation, action, reward, terminal, ...
    fields: dict[str, Any]  # action bounds and fields of Spec

    def to_dataset(self, name: str, discount: float) -> Dataset:
        return from_arrays(**self.arrays, **self.fields, name=name, discount=discount)
