"""The probe of DESIGN: a critic that extrapolates upwards beyond the data's actions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, init, learn
from offrl_jax.networks.values import is_network
from tests.arrays import bandit
from tests.few import few

# Ensembles constrain by their disagreement, and on one line all critics extend alike.
CONTINUOUS = [name for name, a in ALGORITHMS.items() if not a.discrete(a.Config())]
NAIVE = ("sac", "qt_opt", "edac")
LOW, HIGH = -0.5, 0.1
RNG = np.random.default_rng(0)
ACTION = RNG.uniform(LOW, HIGH, (500, 1))
DATASET = bandit(ACTION, 1.0 + 0.2 * ACTION[:, 0])  # rising to the edge of the data, and beyond?
SETTINGS = {  # by field, for whichever algorithm has it
    "batch_size": 32,
    "learning_rate": 3e-3,
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "behavior_learning_rate": 3e-3,
    "prior_learning_rate": 3e-3,
    "divergence_critic_learning_rate": 3e-3,
    "temperature_learning_rate": 3e-3,
    "multiplier_learning_rate": 1e-2,
    "initial_temperature": 0.01,
    "num_behavior_steps": 500,
    "num_warmup_steps": 0,
    "num_sampled_actions": 4,
}


def chosen_actions(name, changes, num_steps=1500):
    """The modes of three seeds."""
    algorithm = ALGORITHMS[name]
    fields = {f.name: f for f in dataclasses.fields(algorithm.Config)}
    networks = {
        k: f.default.copy(hidden_sizes=(16, 16)) for k, f in fields.items() if is_network(f)
    }
    settings = {k: v for k, v in SETTINGS.items() if k in fields}
    config = algorithm.Config(**networks | settings | changes)
    keys = jax.random.split(jax.random.key(8), 3)
    state = init(algorithm, config, DATASET.spec, keys)
    state, _ = learn(algorithm, config, DATASET, state, keys, num_steps=num_steps)
    act = jax.vmap(lambda state: algorithm.act(config, state, jnp.zeros((1, 2)), None))
    return np.asarray(act(state)).ravel()


@pytest.mark.parametrize("name", few(NAIVE, ["sac"]))
def test_a_naive_learner_picks_the_action_that_the_data_never_shows(name):
    assert (chosen_actions(name, {}) > 0.9).all()


def brac(variant, divergence, weight):
    changes = {"variant": variant, "divergence": divergence, "divergence_weight": weight}
    return "brac", changes


# A KL divergence of 0.1 from a Gaussian that covers the data reaches past their edge.
CLOSER = {"abm": {"improvement_epsilon": 0.01, "prior_weight": "uniform"}}
CONSTRAINED = [(name, CLOSER.get(name, {})) for name in CONTINUOUS if name not in NAIVE] + [
    # A kernel as wide as the published σ = 20 hardly sees this data's width of 0.6.
    ("bear", {"mmd_kernel": "gaussian", "behavior": "gaussian", "mmd_sigma": 1.0}),
    *(("cql", {"variant": variant}) for variant in ("v1", "v2", "rho", "author_v2")),
    brac("p", "kl", 1.0),
    brac("v", "reverse_kl", 1.0),
    brac("v", "mmd", 100.0),  # squared and of squashed actions it is at most 0.2
    brac("v", "dual_kl", 10.0),  # the authors' weight where a critic estimates the divergence
    brac("p", "wasserstein", 10.0),
    brac("v", "chi_squared", 10.0),
    brac("p", "total_variation", 10.0),
    brac("v", "jensen_shannon", 10.0),
]


def alone(name, changes):
    """To run beside other algorithms' probes: each compiles its own programs. By default one
    with a constrained actor and one without queries outside run, with -m slow the others."""
    marks = [pytest.mark.xdist_group(f"probe-{name}")]
    if changes or name not in ("td3_bc", "iql"):
        marks.append(pytest.mark.slow)
    return pytest.param(name, changes, marks=marks)


@pytest.mark.parametrize(("name", "changes"), [alone(*case) for case in CONSTRAINED], ids=str)
def test_a_constrained_learner_stays_where_the_data_is(name, changes):
    actions = chosen_actions(name, changes)
    assert ((actions > LOW) & (actions < HIGH)).all(), actions
