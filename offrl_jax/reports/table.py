"""The tables that end a run."""

import numpy as np

from offrl_jax.data import scores
from offrl_jax.evaluation.rollouts import Rollouts
from offrl_jax.evaluation.statistics import bootstrap_interval, interquartile_mean
from offrl_jax.types import Spec


def final_table(
    rollouts: Rollouts, spec: Spec, data_return: float | None, first_seed: int = 0
) -> str:
    """Scores of the last policies by seed, their mean, interquartile mean with a 95% interval,
    and the data's own average. Seeds without results are counted but not averaged over.

    Args:
      rollouts: Of S seeds, arrays (S, episodes), NaN for seeds that diverged.
      spec: The dataset's.
      data_return: Mean undiscounted return of the data's episodes; None if it is not known.
      first_seed: The others follow on.
    """
    returns = rollouts.episode_return.mean(1)
    columns = {
        "return": _written("{:.1f}", returns),
        "length": _written("{:.0f}", rollouts.length.mean(1)),
    }
    judged, judged_name, data_judged = returns, "return", data_return
    if spec.reference_scores is not None:
        judged = scores.normalized_score(returns, spec.reference_scores)
        if data_return is not None:
            data_judged = scores.normalized_score(data_return, spec.reference_scores)
        judged_name = "score"
        columns = {"score": _written("{:.1f}", judged)} | columns
    if not np.isnan(rollouts.success).all():
        columns["success"] = _written("{:.0%}", rollouts.success.mean(1))
    if not np.isnan(rollouts.learned_value).all():
        columns["learned − actual value"] = _written("{:+.2f}", rollouts.value_error.mean(1))

    lines = _by_seed(columns, first_seed)
    num_lost, judged = int(np.isnan(judged).sum()), judged[~np.isnan(judged)]
    low, high = bootstrap_interval(judged)
    interval = (
        f"95% interval {low:.1f} to {high:.1f} over {len(judged)} seeds"
        if len(judged) > 1
        else "no interval from one seed"
    )
    lines += [
        "",
        f"mean {judged_name} of the last policies    {judged.mean():.1f}",
        f"interquartile mean            {interquartile_mean(judged):.1f}  ({interval})",
    ]
    if data_judged is not None:
        lines.append(f"the data's own average        {data_judged:.1f}")
    if num_lost:
        lines += ["", f"note: these are of {len(judged)} seeds; {num_lost} more diverged"]
    if spec.env_id in scores.CAVEATS:
        lines += ["", f"note: {scores.CAVEATS[spec.env_id]}"]
    return "\n".join(lines)


def diagnostics_table(metrics: dict[str, np.ndarray], first_seed: int = 0) -> str:
    """What `diagnostics.diagnose` said last, by seed.

    Args:
      metrics: `runs.Result.metrics`, arrays (S,).
      first_seed: The others follow on.
    """
    shown = {  # metric: heading and format
        "policy_gap": ("Q(policy) − Q(data)", "{:+.2f}"),
        "random_gap": ("Q(random) − Q(data)", "{:+.2f}"),
        "ensemble_spread": ("spread of critics", "{:.2f}"),
        "action_saturation": ("saturated actions", "{:.0%}"),
        "favourite_share": ("most frequent action", "{:.0%}"),
        "behavior_nll": ("behaviour NLL", "{:.2f}"),
        "data_nll": ("of the data", "{:.2f}"),
    }
    columns = {
        heading: _written(form, metrics[f"diagnostics/{name}"])
        for name, (heading, form) in shown.items()
        if f"diagnostics/{name}" in metrics
    }
    return "\n".join(_by_seed(columns, first_seed))


def _written(form: str, values: np.ndarray) -> list[str]:
    return ["–" if np.isnan(x) else form.format(x) for x in values]


def _by_seed(columns: dict[str, list[str]], first_seed: int) -> list[str]:
    seeds = [str(first_seed + i) for i in range(len(next(iter(columns.values()))))]
    return aligned(["seed", *columns], list(zip(seeds, *columns.values(), strict=True)))


def aligned(header: list[str], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table whose columns end below one another."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in [header, *rows]
    ]
