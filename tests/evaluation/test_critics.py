"""Scores of critics by hand."""

import numpy as np

from offrl_jax.evaluation.critics import initial_value, soft_opc, td_error

Q = np.array([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 4.0, 0.0]])


def test_initial_value_is_a_mean_over_starts():
    np.testing.assert_allclose(initial_value(Q), [3.0, 1.0])


def test_soft_opc_compares_successes_with_all():
    success = np.array([False, False, True, True])
    np.testing.assert_allclose(soft_opc(Q, success), [4.5 - 3.0, 2.0 - 1.0])
    for same in (np.zeros, np.ones):
        assert np.isnan(soft_opc(Q, same(4, bool))).all()


def test_td_error_stops_at_true_ends():
    q, next_q = np.array([[1.0, 2.0]]), np.array([[4.0, 100.0]])
    found = td_error(q, next_q, np.array([1.0, 3.0]), np.array([0.0, 1.0]), 0.5)
    np.testing.assert_allclose(found, [-((1 - 3.0) ** 2 + (2 - 3.0) ** 2) / 2])
