"""The methods that `experiments.overestimation` compares, and the settings that they share.

A method differs from the others in its own fields alone. All back up plain target values, without
entropy, so that what is learned and what is measured are the same sum of rewards.
"""

from typing import Any

from offrl_jax.presets.bcq import MODEL
from offrl_jax.presets.common import SMALL_SOFT, WIDE

METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {  # flag: (name, algorithm, its own fields)
    "cql_h": ("CQL(H)", "cql", {"variant": "h"}),
    "cql_eqn1": ("CQL (Eqn. 1)", "cql", {"variant": "v1"}),
    **{
        f"ensemble_{size}": (f"Ensemble({size})", "sac", {"num_critics": size})
        for size in (2, 4, 10, 20)
    },
    "bear": ("BEAR", "bear", {}),
    "cql_eqn2": ("CQL (Eqn. 2)", "cql", {"variant": "v2"}),
    "cql_rho": ("CQL(ρ)", "cql", {"variant": "rho"}),
    "cql_author_v2": ("CQL, authors' version 2", "cql", {"variant": "author_v2"}),
    "cql_lagrange": (
        "CQL(H), Lagrange",
        "cql",
        {"lagrange": "authors", "conservative_weight": 1.0, "lagrange_threshold": 10.0},
    ),
    "cal_ql": ("Cal-QL", "cql", {"calibrated": True}),
    "edac_10": ("EDAC(10)", "edac", {"num_critics": 10}),
    "ensemble_50": ("Ensemble(50)", "sac", {"num_critics": 50}),
}
DEFAULT = list(METHODS)[:7]  # the columns of the CQL paper's table 4

SHARED = {"backup": "deterministic"}
SCALES: dict[str, tuple[int, dict[str, Any], dict[str, dict[str, Any]]]] = {
    # Steps, fields for whichever method has them, and an algorithm's own.
    "quick": (
        20_000,
        SMALL_SOFT | SHARED | {"num_sampled_actions": 4},
        {
            "bear": MODEL | {"num_warmup_steps": 0, "multiplier_learning_rate": 1e-2},
            "cql": {"multiplier_learning_rate": SMALL_SOFT["critic_learning_rate"]},
        },
    ),
    "paper": (
        1_000_000,
        WIDE | SHARED,
        {name: {"actor_learning_rate": 3e-5} for name in ("cql", "sac", "edac")},
    ),
}
