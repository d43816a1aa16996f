"""Numbers at the edge, and numbers that were forgotten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offrl_jax import data, environments, init, learn
from offrl_jax.algorithms import ALGORITHMS
from offrl_jax.evaluation.rollouts import Evaluator
from offrl_jax.networks.distributions import TanhGaussian
from offrl_jax.networks.modules import MLP
from offrl_jax.runs.policy import load_policy, save_policy
from tests.toy import toy_dataset

KEY = jax.random.key(0)
over_types = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
over_edges = pytest.mark.parametrize(
    ("mean", "log_std"),
    [(0.0, 0.0), (50.0, -5.0), (-50.0, -5.0), (50.0, 2.0), (-50.0, 2.0), (1e4, -20.0), (-1e4, 0.0)],
)


def finite(function, *arrays):
    """The value and the gradients by every argument, which are all finite."""
    value, gradients = jax.value_and_grad(function, tuple(range(len(arrays))))(*arrays)
    for number in (value, *gradients):
        assert np.isfinite(np.asarray(number, np.float32)).all(), (value, gradients)
    return float(value)


@pytest.mark.fault(4, "|a| = 1 exactly", "finite density and gradient")
@over_types
@over_edges
def test_actions_on_their_bounds(seen, dtype, mean, log_std):
    arrays = (jnp.array(x, dtype)[None] for x in ([mean, mean], [log_std, log_std], [1.0, -1.0]))
    density = finite(lambda m, s, a: TanhGaussian(m, s).log_prob(a).sum(), *arrays)
    seen(f"log-density {density:.4g}")


@pytest.mark.fault(5, "large values before tanh", "finite density and gradient")
@over_types
@over_edges
@pytest.mark.parametrize("num_samples", [None, 3])
def test_large_values_before_tanh(seen, dtype, mean, log_std, num_samples):
    def densities(mean, log_std):
        action, log_prob = TanhGaussian(mean, log_std).sample_and_log_prob(KEY, num_samples)
        return log_prob.sum() + action.sum()

    value = finite(densities, jnp.full((1, 2), mean, dtype), jnp.full((1, 2), log_std, dtype))
    seen(f"log-density and action {value:.4g}")


@pytest.mark.fault(26, "normalisation forgotten", "file, evaluator and learner act alike")
def test_normalisation_travels_with_the_policy(tmp_path, seen):
    dataset = data.normalize_observations(toy_dataset())
    algorithm = ALGORITHMS["bc"]
    config = algorithm.Config(network=MLP((16,)), batch_size=16)
    keys = KEY[None]
    state = init(algorithm, config, dataset.spec, keys)
    state, _ = learn(algorithm, config, dataset, state, keys, num_steps=50)
    save_policy(
        tmp_path,
        algorithm,
        config,
        state=state,
        spec=dataset.spec,
        preprocessing=dataset.preprocessing,
    )

    raw = np.asarray(toy_dataset().transitions.observation)[:9]
    one = jax.tree.map(lambda x: x[0], state)
    low, high = (np.asarray(x) for x in (dataset.spec.action_low, dataset.spec.action_high))

    def act(observation):
        unit = np.asarray(algorithm.act(config, one, jnp.asarray(observation), None))
        return low + (unit + 1) / 2 * (high - low)

    expected = act(dataset.transitions.observation[:9])
    forgotten = np.abs(act(raw) - expected).max()
    np.testing.assert_allclose(load_policy(tmp_path)(raw), expected, rtol=1e-4, atol=1e-4)

    steps = []  # what the evaluator was shown and did
    env = environments.make_from_spec(dataset.spec)
    step = type(env.unwrapped).step
    with pytest.MonkeyPatch.context() as patch:

        def recorded(self, action):
            steps.append(([self.start, self.time], action))
            return step(self, action)

        patch.setattr(type(env.unwrapped), "step", recorded)
        evaluator = Evaluator(algorithm, dataset, (1,), 3)
        evaluator(config, state)
        evaluator.close()
    shown, done = (np.asarray(x, np.float32) for x in zip(*steps, strict=True))
    expected = act(dataset.preprocessing.normalize(jnp.asarray(shown)))
    np.testing.assert_allclose(done, expected, rtol=1e-4, atol=1e-4)
    seen(f"equal to 1e-4; without it actions differ by up to {forgotten:.2g}")
    assert forgotten > 0.1
