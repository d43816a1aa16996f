"""What a policy's own critic says of it: scores that cost no further training.

Rows are of P policies. Each is the higher the better the critic believes its policy to be.
"""

import numpy as np


def initial_value(value: np.ndarray) -> np.ndarray:
    """mean_{s₀} V_i(s₀), (P,).

    Args:
      value: At the first states of episodes, (P, M).

    Source: Paine et al. 2020, arXiv:2007.09055.
    """
    return np.mean(value, axis=-1)


def soft_opc(q: np.ndarray, success: np.ndarray) -> np.ndarray:
    """Soft off-policy classification, (P,): mean of Q_i(s, a) over transitions of successful
    episodes, less the mean over all.

    Args:
      q: At the data's own actions, (P, N).
      success: Whether the transition's episode succeeded, (N,); NaN comes out where none did or
        all, which tells no policy from another.

    Source: Irpan et al. 2019, arXiv:1906.01624, eq. 8, with p(positive) = 1.
    """
    if success.all() or not success.any():
        return np.full(len(q), np.nan)
    return np.mean(q[:, success], axis=-1) - np.mean(q, axis=-1)


def td_error(
    q: np.ndarray,
    next_q: np.ndarray,
    reward: np.ndarray,
    terminal: np.ndarray,
    discount: float,
) -> np.ndarray:
    """− mean( (Q_i(s, a) − [r + γ (1 − d) Q_i(s′, π_i(s′))])² ), (P,).

    Args:
      q: At the data's own actions, (P, N).
      next_q: At the policies' actions in the next states, (P, N).
      reward: (N,), as the critic learnt from them.
      terminal: 1 at true ends, (N,).
      discount: γ of the critic.
    """
    target = reward[None] + discount * (1.0 - terminal[None]) * next_q
    return -np.mean(np.square(q - target), axis=-1)
