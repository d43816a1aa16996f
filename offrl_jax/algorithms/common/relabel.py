"""Returns of a whole dataset, recomputed while training: what `Phase.relabel` is made of."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from offrl_jax.data.dataset import Dataset
from offrl_jax.losses.regression import lambda_returns
from offrl_jax.types import Array, Float, Scalar


def with_lambda_returns(
    dataset: Dataset, next_value: Float[Array, "N"], discount: Scalar, trace_decay: Scalar
) -> Dataset:
    """The dataset with TD(λ) returns, under values V(s′) of its rows, for `return_to_go`."""
    rows = dataset.transitions
    goes_on = jnp.append(dataset.episode[1:] == dataset.episode[:-1], False)
    returns = lambda_returns(
        rows.reward,
        rows.terminal,
        next_value,
        goes_on.astype(rows.reward.dtype),
        discount,
        trace_decay,
    )
    return dataclasses.replace(dataset, transitions=rows._replace(return_to_go=returns))


def with_discounted_returns(config: Any, state: Any, dataset: Dataset) -> tuple[Any, Dataset]:
    """A `Phase.relabel`: the returns to the recorded end of the episode, discounted by
    `config.discount`, whatever the dataset's own; a cut counts as an end."""
    next_value = jnp.zeros_like(dataset.transitions.reward)
    return state, with_lambda_returns(dataset, next_value, config.discount, 1.0)
