"""The settings of safe exploration; its baselines are other choices of the same."""

from offrl_jax.config import config, setting

PENALTIES = ("value", "pointwise", "logsumexp", "ordinary")
POLICY_STEPS = ("trust_region", "gradient")
ESTIMATES = ("critic", "episodes")


@config
class SafetyConfig:
    discount: float = setting(0.99, "γ of the task", low=0, high=1)
    advantage_decay: float = setting(0.95, "λ of GAE", low=0, high=1)
    accident_discount: float = setting(0.7, "γ of accidents", low=0, high=0.9999)
    accident_limit: float = setting(0.3, "χ, the highest V_C allowed", low=0, high=1)
    conservative_weight: float = setting(5e-4, "α of the accident critic; 0 is a plain one", low=0)
    kl_limit: float = setting(0.01, "δ, the largest KL(π_old‖π) of a step", low=0)
    damping: float = setting(0.01, "added to the Fisher matrix", low=0)
    backtracking: float = setting(0.7, "a refused step is shortened by this", low=0.01, high=0.99)
    multiplier_learning_rate: float = setting(0.02, "step size of λ", low=0)
    initial_multiplier: float = setting(1.0, "λ at the start", low=0)
    policy_learning_rate: float = setting(3e-3, "Adam's, of policy_step=gradient", low=0)
    value_learning_rate: float = setting(1e-3, "Adam's, of V", low=0)
    critic_learning_rate: float = setting(3e-3, "Adam's, of Q_C", low=0)
    target_update_rate: float = setting(0.05, "Polyak rate of Q_C's target", low=0, high=1)
    initial_log_std: float = setting(-0.5, "log σ of the policy at the start")
    penalty: str = setting(
        "value",
        "what the accident critic's α multiplies. value: raises π's actions and lowers the data's; "
        "pointwise: raises uniform actions; logsumexp: CQL(H) of −Q_C; ordinary: CQL's own sign, "
        "which under-estimates accidents",
        choices=PENALTIES,
    )
    clip_accidents: bool = setting(True, "keep targets in [0, 1] and push no Q_C out of it")
    constrained: bool = setting(
        True, "whether the policy's step is constrained by accidents (λ, χ)"
    )
    shielded: bool = setting(True, "whether actions with Q_C > ε are drawn again")
    accident_estimate: str = setting(
        "critic",
        "V_C of the start: Q_C's own, or the share of the last iteration's episodes",
        choices=ESTIMATES,
    )
    policy_step: str = setting(
        "trust_region", "natural gradient within δ, or one step of Adam", choices=POLICY_STEPS
    )
    num_shield_actions: int = setting(100, "draws before the least dangerous is taken", low=1)
    num_policy_actions: int = setting(2, "sampled actions of π a state in expectations", low=2)
    num_fisher_states: int = setting(512, "states of the Fisher matrix", low=1)
    num_conjugate_steps: int = setting(10, "steps of the conjugate gradient", low=1)
    num_backtracks: int = setting(20, "lengths of a step that are tried", low=1)
    num_value_steps: int = setting(40, "updates of V an iteration", low=1)
    num_critic_steps: int = setting(100, "updates of Q_C an iteration", low=1)
    batch_size: int = setting(256, "transitions an update of V or Q_C", low=1)
    replay_size: int = setting(100_000, "transitions kept for Q_C", low=1)
    num_random_transitions: int = setting(1024, "of random actions, before the first one", low=1)
    num_pretraining_steps: int = setting(1000, "updates of Q_C on those", low=1)
    num_worlds: int = setting(64, "worlds at once", low=1)
    num_world_steps: int = setting(32, "steps of each an iteration", low=1)
    hidden_sizes: tuple[int, ...] = setting((32, 32), "hidden layers of all networks", low=1)


METHODS: dict[str, tuple[str, dict]] = {  # name on the command line: (in tables, its choices)
    "csc": ("CSC", {}),
    "csc_pointwise": ("CSC, pointwise", {"penalty": "pointwise"}),
    "csc_logsumexp": ("CSC, logsumexp", {"penalty": "logsumexp"}),
    "ordinary_sign": ("ordinary sign", {"penalty": "ordinary"}),
    "no_shield": ("CSC, no shield", {"shielded": False}),
    "lagrangian": ("Lagrangian only", {"shielded": False, "conservative_weight": 0.0}),
    "unconstrained": ("unconstrained", {"shielded": False, "constrained": False}),
    "reinforce": (
        "REINFORCE",
        {
            "shielded": False,
            "constrained": False,
            "policy_step": "gradient",
            "advantage_decay": 1.0,
        },
    ),
}
