"""QT-Opt's target and losses against NumPy, lagged copy, fixed points and check of the data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, grid, init, learn, stack
from offrl_jax.algorithms.common import cross_entropy_method
from offrl_jax.algorithms.qt_opt import QTOptConfig, critic_loss, next_state_value
from offrl_jax.cli import train
from offrl_jax.networks.modules import MLP
from offrl_jax.types import InputError
from tests import commands
from tests.arrays import bandit, chain, random_dataset
from tests.networks.test_modules import filled, numpy_critics

QT_OPT = ALGORITHMS["qt_opt"]
DATASET = random_dataset()
BATCH = jax.tree.map(lambda x: x[35:44], DATASET.transitions)  # a true end is among them
KEY = jax.random.key(1)
CONFIG = QTOptConfig(
    critic_network=MLP((8,)), batch_size=9, num_samples=16, num_elites=3, discount=0.9
)
PROBABILITY = dataclasses.replace(CONFIG, loss="cross_entropy")
STATE = init(QT_OPT, CONFIG, DATASET.spec, KEY)
CRITICS = [filled(STATE.critic.params, seed) for seed in range(3)]
STATE = STATE._replace(
    critic=STATE.critic._replace(params=CRITICS[0]),
    target_critic=CRITICS[1],
    lagged_target_critic=jax.tree.map(lambda x, y: x + 0.1 * y, *CRITICS[1:]),
    start=jnp.array([0.5, -0.3, 0.1]),
)
update, next_value = jax.jit(QT_OPT.update), jax.jit(next_state_value)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def link(config):
    return sigmoid if config.loss == "cross_entropy" else lambda x: x


def numpy_next_value(config):
    """min( Q̄_1, Q̄_2 ) at the best action that the samples show of Q̄_1."""
    s = BATCH.next_observation

    def score(action):
        return jnp.asarray(numpy_critics(STATE.target_critic, s, action)[0], jnp.float32)

    action, _ = cross_entropy_method.maximize(
        score,
        jnp.tile(STATE.start, (9, 1)),
        KEY,
        num_samples=config.num_samples,
        num_elites=config.num_elites,
    )
    both = [
        numpy_critics(critic, s, action)[0]
        for critic in (STATE.target_critic, STATE.lagged_target_critic)
    ]
    return link(config)(np.array(both))


@pytest.mark.parametrize("config", [CONFIG, PROBABILITY], ids=lambda c: c.loss)
def test_the_next_value_is_the_lower_of_both_targets_at_the_best_action_of_the_first(config):
    both = numpy_next_value(config)
    lower = both.argmin(axis=0)
    assert 0 < lower.sum() < 9
    actual = next_value(config, STATE, BATCH, KEY)
    np.testing.assert_allclose(actual, both.min(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, PROBABILITY], ids=lambda c: c.loss)
def test_a_step_is_one_of_adam_on_the_loss_in_numpy(config):
    """y = r + γ (1 − d) V̄; the slope along a random direction by central differences."""
    terminal = np.asarray(BATCH.terminal)
    assert 0 < terminal.sum() < 9
    reward = np.linspace(0.0, 0.1, 9)
    batch = BATCH._replace(reward=jnp.asarray(reward, jnp.float32))
    target = reward + 0.9 * (1 - terminal) * numpy_next_value(config).min(axis=0)

    def loss(critic):
        x = numpy_critics(critic, batch.observation, batch.action)[0]
        if config.loss == "mse":
            return np.mean((x - target) ** 2)
        q = sigmoid(x)
        return -np.mean(target * np.log(q) + (1 - target) * np.log(1 - q))

    after, metrics = update(config, STATE, batch, KEY)
    np.testing.assert_array_equal(after.start, STATE.start)
    assert float(metrics["critic/loss"]) == pytest.approx(loss(CRITICS[0]), rel=1e-4)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), CRITICS[0])
    ahead, behind = (
        loss(jax.tree.map(lambda x, d, h=h: np.asarray(x) + h * d, CRITICS[0], direction))
        for h in (1e-5, -1e-5)
    )
    moment = after.critic.opt_state[0].mu  # a tenth of the gradient
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: 10 * np.sum(g * d), moment, direction)))
    assert along == pytest.approx((ahead - behind) / 2e-5, rel=1e-3)
    critic = after.critic.params
    expected = jax.tree.map(lambda t, c: t + 1e-4 * (c - t), STATE.target_critic, critic)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.target_critic, expected
    )


def test_the_cross_entropys_gradient_in_the_logit_is_q_less_y():
    """The head's bias moves every logit alike."""
    target = jnp.linspace(0.0, 1.0, 9)
    gradient, _ = jax.grad(critic_loss, argnums=1, has_aux=True)(
        PROBABILITY, CRITICS[0], BATCH, target
    )
    q = sigmoid(numpy_critics(CRITICS[0], BATCH.observation, BATCH.action)[0])
    bias = gradient["members"]["head"]["bias"]
    assert float(bias[0, 0]) == pytest.approx(np.mean(q - np.asarray(target)), rel=1e-4)


def test_the_second_target_is_copied_from_the_first_every_so_many_steps():
    config = dataclasses.replace(CONFIG, num_lag_steps=3, target_update_rate=0.3)
    state, copied = STATE, STATE.lagged_target_critic
    for step in range(1, 8):
        state, _ = update(config, state, BATCH, KEY)
        if step % 3 == 0:
            copied = state.target_critic
        else:
            assert not same(state.lagged_target_critic, state.target_critic)
        assert same(state.lagged_target_critic, copied), step
    assert state.step == 7


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


def fitted(dataset, num_steps, **settings):
    quick = {"critic_learning_rate": 1e-2, "target_update_rate": 0.1, "num_lag_steps": 10}
    config = QTOptConfig(
        **{"critic_network": MLP((16,)), "batch_size": 32, "num_samples": 8, "num_elites": 2}
        | quick
        | settings
    )
    state = init(QT_OPT, config, dataset.spec, KEY)
    return config, learn(QT_OPT, config, dataset, state, KEY, num_steps=num_steps)[0]


def test_values_of_a_two_state_chain_whose_second_is_a_true_end():
    """Q(s₁) = 2 and Q(s₀) = 1 + 2γ. Where s₁ did not end, it would be worth more."""
    config, state = fitted(chain(), 600, discount=0.9)
    q = QT_OPT.q_values(config, state, jnp.eye(2), jnp.zeros((2, 1)))
    np.testing.assert_allclose(q[0], [1 + 0.9 * 2, 2.0], atol=0.15)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_both_losses_learn_the_probability_of_a_reward(loss):
    """One state that ends, and back to itself: Q = P(r = 1), 0.25 at −½ and 0.75 at ½."""
    action = np.tile([[-0.5], [0.5]], (64, 1))
    reward = np.tile([1, 1, 0, 1, 0, 1, 0, 0], 16)  # of four at −½: 1, 0, 0, 0
    assert [reward[i::2].mean() for i in (0, 1)] == [0.25, 0.75]
    config, state = fitted(bandit(action, reward), 500, loss=loss, critic_learning_rate=3e-3)
    q = QT_OPT.q_values(config, state, jnp.zeros((2, 2)), jnp.array([[-0.5], [0.5]]))
    np.testing.assert_allclose(q[0], [0.25, 0.75], atol=0.07)


def test_the_search_starts_at_the_middle_of_the_actions():
    start = init(QT_OPT, CONFIG, DATASET.spec, KEY).start
    np.testing.assert_array_equal(start, np.zeros(3))


def test_acting_maximises_the_critic_and_the_value_is_what_it_finds():
    lattice = np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 3), -1).reshape(1, -1, 3)
    lattice = jnp.asarray(np.repeat(lattice, 9, axis=0))
    for of_loss in (CONFIG, PROBABILITY):
        settings = dataclasses.replace(of_loss, num_samples=256, num_elites=8, num_rounds=4)
        action = jax.jit(QT_OPT.act)(settings, STATE, BATCH.observation, None)
        q, on_grid = (
            link(settings)(numpy_critics(CRITICS[0], BATCH.observation, a)[0])
            for a in (action, lattice)
        )
        spread = on_grid.max(axis=1) - on_grid.min(axis=1)
        assert np.median((on_grid.max(axis=1) - q) / spread) < 0.02
        value = jax.jit(QT_OPT.value)(settings, STATE, BATCH.observation)
        np.testing.assert_allclose(value, q, rtol=1e-4, atol=1e-5)


REWARDS = {  # of a transition that goes on and of one that ends, with γ = 0.9
    "the edges": ([0.1, 0.0], [1.0, 0.0], True),
    "negative": ([-1e-4, 0.0], [1.0, 0.0], False),
    "a negative end": ([0.0, 0.0], [-1e-4, 1.0], False),
    "too much where it goes on": ([0.1001, 0.0], [1.0, 0.0], False),
    "too much at an end": ([0.0, 0.0], [1.0001, 0.0], False),
}


@pytest.mark.parametrize(("going_on", "ending", "is_taken"), REWARDS.values(), ids=REWARDS)
def test_cross_entropy_takes_exactly_the_data_whose_targets_stay_in_0_to_1(
    going_on, ending, is_taken
):
    dataset = chain(4)
    reward = jnp.array([going_on[0], ending[0], going_on[1], ending[1]])
    transitions = dataset.transitions._replace(reward=reward)
    assert transitions.terminal.tolist() == [0, 1, 0, 1]
    dataset = dataclasses.replace(dataset, transitions=transitions)

    def train(loss, discount=0.9):
        settings = dataclasses.replace(PROBABILITY, loss=loss, discount=discount, batch_size=2)
        state = init(QT_OPT, settings, dataset.spec, KEY)
        return learn(QT_OPT, settings, dataset, state, KEY, num_steps=1)

    train("mse")
    if is_taken:
        train("cross_entropy")
        with pytest.raises(InputError, match=r"they reach from 0 to 1\.01;"):
            train("cross_entropy", discount=0.91)
    else:
        with pytest.raises(InputError, match=r"needs targets in \[0, 1\].* take loss=mse, or"):
            train("cross_entropy")


def test_of_several_settings_all_must_fit():
    stacked = stack(grid(PROBABILITY, discount=[0.1, 0.9]))
    reward = DATASET.transitions._replace(reward=jnp.full(len(DATASET), 0.5))
    with pytest.raises(InputError, match=r"reach from 0 to 1\.4"):
        QT_OPT.check(stacked, dataclasses.replace(DATASET, transitions=reward))


def test_more_elites_than_samples_are_refused_before_training():
    settings = dataclasses.replace(CONFIG, num_elites=17)
    state = init(QT_OPT, settings, DATASET.spec, KEY)
    with pytest.raises(InputError, match="num_samples=16, num_elites=17"):
        learn(QT_OPT, settings, DATASET, state, KEY, num_steps=1)


def test_the_command_refuses_rewards_that_cross_entropy_cannot_learn(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    done = commands.run(
        *(train, "--algorithm=qt_opt", "--dataset=pointmaze/umaze-600", "--num_steps=5"),
        *("--config.loss=cross_entropy", "--reward_bias=-1", f"--run_dir={tmp_path / 'run'}"),
    )
    sentence = done["err"].splitlines()[-1]
    assert done["code"] == 2 and sentence.startswith(
        "error: --config.loss=cross_entropy needs targets"
    )
    assert "Traceback" not in done["err"] and not (tmp_path / "run").exists()
