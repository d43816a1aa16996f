import jax
import jax.numpy as jnp
import numpy as np

from offrl_jax.algorithms.common.best_of_n import best_action, sample_noise

KEY = jax.random.key(3)


def test_with_a_key_every_state_draws_its_own_standard_normals():
    noise = np.asarray(sample_noise(KEY, 50, 40, 30))
    assert noise.shape == (50, 40, 30)
    assert len(np.unique(noise[:, 0, 0])) == 50 and len(np.unique(noise[0, :, 0])) == 40
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02  # five standard errors
    assert (sample_noise(jax.random.key(4), 50, 40, 30) != noise).mean() > 0.99


def test_without_a_key_all_states_and_calls_share_theirs():
    noise = sample_noise(None, 5, 4, 3)
    assert noise.shape == (1, 4, 3)
    assert len(np.unique(noise)) == 12
    np.testing.assert_array_equal(sample_noise(None, 7, 4, 3), noise)


def test_each_state_takes_its_candidate_of_highest_q():
    rng = np.random.default_rng(0)
    action, q = rng.normal(size=(6, 4, 2)), rng.normal(size=(6, 4))
    expected = [
        max(zip(q[b], action[b], strict=True), key=lambda pair: pair[0])[1] for b in range(6)
    ]
    best = best_action(jnp.asarray(action), jnp.asarray(q))
    np.testing.assert_allclose(best, expected, rtol=1e-6)
