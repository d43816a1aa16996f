"""The theory of offline reinforcement learning on finite MDPs: exact, and small enough to look at.

Every function is pure `jax.numpy`, takes an `MDP` of arrays and works under `jit`, and under `vmap`
over batches of MDPs, policies or weights.
"""

from offrl_jax.tabular.conservative import (
    action_ratio,
    chi_squared,
    cql_h,
    cql_h_minimiser,
    cql_v1,
    cql_v2,
    penalised_evaluation,
)
from offrl_jax.tabular.constraints import (
    Constrained,
    brac_v,
    chi_squared_best_response,
    chi_squared_control,
    kl,
    kl_best_response,
    kl_control,
)
from offrl_jax.tabular.control import (
    greedy_policy,
    optimal_backup,
    q_iteration,
    value_iteration,
)
from offrl_jax.tabular.discor import accumulated_error, discor_weight
from offrl_jax.tabular.evaluation import (
    discounted_state_sum,
    discounted_sum,
    expected_return,
    pair_transition,
    policy_backup,
    policy_mean,
    q_value,
    state_transition,
    state_value,
    visitation,
)
from offrl_jax.tabular.fitted import fitted_q_evaluation, fitted_q_iteration, q_learning
from offrl_jax.tabular.fixed_point import fixed_point
from offrl_jax.tabular.grid_world import ACTIONS, GridWorld, grid_world
from offrl_jax.tabular.mdp import MDP, check, random_mdp, uniform_policy
from offrl_jax.tabular.safety import (
    accident_value,
    conservative_accident_critic,
    shielded_policy,
)
from offrl_jax.tabular.transitions import (
    Transitions,
    behavior_policy,
    count_pairs,
    empirical_mdp,
    sample_episodes,
    sample_pairs,
)

__all__ = [
    "ACTIONS",
    "MDP",
    "Constrained",
    "GridWorld",
    "Transitions",
    "accident_value",
    "accumulated_error",
    "action_ratio",
    "behavior_policy",
    "brac_v",
    "check",
    "chi_squared",
    "chi_squared_best_response",
    "chi_squared_control",
    "conservative_accident_critic",
    "count_pairs",
    "cql_h",
    "cql_h_minimiser",
    "cql_v1",
    "cql_v2",
    "discor_weight",
    "discounted_state_sum",
    "discounted_sum",
    "empirical_mdp",
    "expected_return",
    "fitted_q_evaluation",
    "fitted_q_iteration",
    "fixed_point",
    "greedy_policy",
    "grid_world",
    "kl",
    "kl_best_response",
    "kl_control",
    "optimal_backup",
    "pair_transition",
    "penalised_evaluation",
    "policy_backup",
    "policy_mean",
    "q_iteration",
    "q_learning",
    "q_value",
    "random_mdp",
    "sample_episodes",
    "sample_pairs",
    "shielded_policy",
    "state_transition",
    "state_value",
    "uniform_policy",
    "value_iteration",
    "visitation",
]
