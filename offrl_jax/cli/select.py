"""Chooses among the policies of trained runs, offline by a score or online by a bandit.

  offrl select runs/iql runs/cql
  offrl select runs/* --checkpoints=all --by=initial_value --output=runs/choice
  offrl select runs/* --by=online --num_episodes=60

Prints the policies with every score, what they truly returned where their runs rolled them out, how
well each score foretold that, and the choice with the environment episodes that it has seen: none
where a score of the data decides. Writes selection.json and scores.png to --output.

Scores, of which the highest is the best: fqe, fitted Q evaluation, mean Q(s0, pi(s0)) over the
data's initial states; initial_value, the same by the run's own critic; soft_opc, its mean Q over
transitions of successful episodes less that over all; td_error, its mean squared TD error, negated.
The first two are discounted returns in the environment's rewards, whatever the runs made of these.

Runs may be of several algorithms, but must have learnt from the same data.
"""

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from offrl_jax import data
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.common_flags import define
from offrl_jax.cli.help import section
from offrl_jax.data import Dataset
from offrl_jax.data.transforms import with_discount
from offrl_jax.evaluation import critics, fqe, selection
from offrl_jax.evaluation.rollouts import Evaluator
from offrl_jax.files import write_json
from offrl_jax.reports import selection as report
from offrl_jax.runs import load
from offrl_jax.runs.load import Trained
from offrl_jax.runs.messages import say
from offrl_jax.types import InputError, Transition

SCORES = "fqe", "initial_value", "soft_opc", "td_error"
ASKED = {  # score: what an algorithm must have for it
    "initial_value": "value",
    "soft_opc": "q_values",
    "td_error": "q_values",
}
NUM_CRITIC_ROWS = 10_000  # transitions at which the runs' own critics are asked
TASK = "env_id", "env_kwargs", "max_episode_steps"  # what true returns are of
SETTINGS = "seed", "num_steps", "discount", "num_transitions", "success_quantile"
FIRST_START = 1_000_000  # of online episodes, so that the true returns are of others
CLIPPED = 0.2  # share of clipped targets from which an estimate is warned of

with section("choice"):
    flags.DEFINE_enum("by", "fqe", (*SCORES, "online"), "what decides")
    flags.DEFINE_list("scores", [*SCORES], f"what to compute beside that, of {', '.join(SCORES)}")
    flags.DEFINE_enum(
        "checkpoints", "last", ("last", "all"), "of every run: the newest or all it kept"
    )
    flags.DEFINE_integer(
        "num_episodes", None, "that --by=online may play in all, one a policy at least", 1
    )
    define("seed")
    flags.DEFINE_float(
        "success_quantile",
        0.9,
        "soft OPC: episodes whose return reaches this quantile, and is not the least, succeed",
        0,
        1,
    )
with section("fitted Q evaluation"):
    flags.DEFINE_integer("num_steps", 5000, "updates of FQE", 1)
    flags.DEFINE_float("discount", 0.99, "γ of FQE", 0.0, 0.9999)
    flags.DEFINE_integer(
        "num_transitions", 200_000, "of the data, for FQE: a sample if it has more", 1
    )
with section("data"):
    flags.DEFINE_string("dataset", None, "what the runs learnt from, where it has moved since")
    define("observation_keys", "clip_actions", "trust_dataset_env")
with section("output"):
    flags.DEFINE_string("output", None, "folder of the results (default: a new one under runs/)")


def main(*run_dirs: str) -> None:
    names = [name for name in SCORES if name in FLAGS.scores or name == FLAGS.by]
    if unknown := set(FLAGS.scores) - set(SCORES):
        raise InputError(f"there is no score {unknown.pop()!r}; there are {', '.join(SCORES)}")
    for name in ("discount", "success_quantile"):
        if np.isnan(FLAGS[name].value):  # within any bounds, by absl
            raise InputError(f"--{name}=nan is no number; give one within its bounds (see --help)")
    if not run_dirs:
        raise InputError("no run is given; name the directories of one or more trainings")
    groups = [
        group
        for run_dir in dict.fromkeys(run_dirs)
        for group in load.load(run_dir, all_checkpoints=FLAGS.checkpoints == "all")
    ]
    policies = [(group, i) for group in groups for i in range(len(group.seeds))]
    if (FLAGS.num_episodes is None) == (FLAGS.by == "online"):
        raise InputError("--num_episodes is what --by=online needs, and nothing else takes it")
    if FLAGS.by == "online" and FLAGS.num_episodes < len(policies):
        raise InputError(
            f"num_episodes={FLAGS.num_episodes} do not give each of {len(policies)} policies one; "
            "give more, or fewer policies"
        )
    if (asked := ASKED.get(FLAGS.by)) and all(
        getattr(group.algorithm, asked) is None for group in groups
    ):
        kinds = ", ".join(sorted({group.algorithm.name for group in groups}))
        raise InputError(
            f"--by={FLAGS.by} asks the runs' own critics for {asked}, and {kinds} has none; choose "
            "by fqe or online"
        )
    dataset = _dataset(groups)
    output = Path(FLAGS.output or f"runs/select-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {output} cannot be made ({error}); give another") from error

    clock = time.perf_counter()
    scores, fitted = _scores(names, groups, dataset)
    seconds = time.perf_counter() - clock
    returns = np.concatenate([_means(g.returns, g) for g in groups])
    judged = report.judged(scores, returns, _true_values(scores, groups))
    rows = [
        {
            "run": str(group.run),
            "algorithm": group.algorithm.name,
            "step": group.step,
            "seed": group.seeds[i],
            "scores": {name: float(values[p]) for name, values in scores.items()},
            "true_return": float(returns[p]),
        }
        for p, (group, i) in enumerate(policies)
    ]
    for name, values in fitted.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = float(value)
    if FLAGS.by == "online":
        bandit = _online(policies, dataset)
        chosen, seen = int(bandit.choice[-1, 0]), FLAGS.num_episodes
        for row, count, mean in zip(rows, bandit.counts[0], bandit.means[0], strict=True):
            row["online"] = {"episodes": int(count), "mean_return": float(mean)}
    else:
        chosen, seen = _best(scores[FLAGS.by]), 0
    results = {
        "by": FLAGS.by,
        "choice": rows[chosen],
        "environment_episodes_seen": seen,
        "dataset": dataset.spec.to_json(),
        "settings": {name: FLAGS[name].value for name in SETTINGS},
        "seconds_of_scores": seconds,
        "judged": judged,
        "online_instead": _online_instead(groups),
        "policies": rows,
    }
    print(_table(rows, chosen))
    print(f"\n{_verdict(results)}\n")
    if judged:
        print(f"{report.markdown(judged)}\n")
    if results["online_instead"]:
        print(f"{_online_table(results['online_instead'])}\n")
    try:
        write_json(output / "selection.json", results)
        if scores and np.isfinite(returns).any():
            labels = [f"{group.run.name} ({group.algorithm.name})" for group, _ in policies]
            title = f"{Path(dataset.spec.name).name}, by {FLAGS.by}"
            report.plot(output / "scores.png", scores, returns, labels, chosen, title)
    except OSError as error:
        message = f"the selection cannot be written ({error}); give another output"
        raise InputError(message) from error
    print(f"scores took {seconds:.3g} s; {output}/selection.json")


def _dataset(groups: list[Trained]) -> Dataset:
    """What all of the runs learnt from, as it was before they transformed it.

    Raises:
      InputError: if it is not the same, their environments are not, or it is not what the
        dataset's name stands for now.
    """
    first = groups[0]
    for group in groups:
        if group.spec.fingerprint != first.spec.fingerprint:
            raise InputError(
                f"{first.run} and {group.run} learnt from different data "
                f"({first.spec.name} and {group.spec.name}); select among runs on one dataset"
            )
        one, other = first.spec.to_json(), group.spec.to_json()
        for field in TASK:
            if one[field] != other[field]:
                raise InputError(
                    f"{first.run} and {group.run} are of different environments ({field} "
                    f"{one[field]} and {other[field]}); select among runs in one environment"
                )
    name = FLAGS.dataset or first.spec.name
    dataset = data.load_dataset(
        name,
        observation_keys=tuple(FLAGS.observation_keys),
        clip_actions=FLAGS.clip_actions,
        trust_dataset_env=FLAGS.trust_dataset_env,
    )
    if dataset.spec.fingerprint != first.spec.fingerprint:
        raise InputError(
            f"dataset {name} has the fingerprint {dataset.spec.fingerprint[:12]} but {first.run} "
            f"learnt from {first.spec.fingerprint[:12]}; give the data of the runs with --dataset"
        )
    return dataset


def _scores(
    names: list[str], groups: list[Trained], dataset: Dataset
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The scores by name, (P,), NaN where a policy has none; and by name what else FQE says."""
    rng = np.random.default_rng(FLAGS.seed)
    num_rows = min(FLAGS.num_transitions, len(dataset))
    rows = rng.choice(len(dataset), num_rows, replace=False)
    raw = jax.tree.map(np.asarray, dataset.transitions)
    start = np.asarray(fqe.initial_observations(dataset))
    scores, fitted = {}, {}
    if "fqe" in names:
        say(f"fitted Q evaluation of {sum(len(g.seeds) for g in groups)} policies")
        estimate = _fitted(groups, dataset, rows, raw.next_observation[rows], start)
        scores["fqe"] = np.asarray(estimate.score)
        fitted = {f"fqe_{k}": np.asarray(v) for k, v in estimate._asdict().items() if k != "score"}
        if (num := int((fitted["fqe_clipped"] > CLIPPED).sum())) > 0:
            say(
                f"warning: FQE's targets were clipped for {num} policies; their scores are not fits"
            )
    if "initial_value" in names:
        scores["initial_value"] = np.concatenate([_initial_value(g, start) for g in groups])
    if "soft_opc" in names or "td_error" in names:
        rows = rows[:NUM_CRITIC_ROWS]
        returns = data.episode_returns(dataset)
        # Where most returns are the least there is, 0 say, they are its quantile and no successes.
        succeeded = returns >= np.quantile(returns, FLAGS.success_quantile)
        succeeded &= returns > returns.min()
        success = succeeded[np.asarray(dataset.episode)[rows]]
        sample = jax.tree.map(lambda x: x[rows], raw)
        found = [_critic_scores(group, sample, success) for group in groups]
        for name, values in zip(("soft_opc", "td_error"), zip(*found, strict=True), strict=True):
            if name in names:
                scores[name] = np.concatenate(values)
    return scores, fitted


def _fitted(
    groups: list[Trained],
    dataset: Dataset,
    rows: np.ndarray,
    next_observation: np.ndarray,
    start: np.ndarray,
) -> fqe.Estimate:
    """FQE of all policies on the rows of the data, in the environment's rewards."""
    config = fqe.FQEConfig(num_steps=FLAGS.num_steps, discount=FLAGS.discount)
    dataset = data.normalize_observations(with_discount(dataset, config.discount))
    reward = np.asarray(dataset.transitions.reward)
    return fqe.fit(
        config,
        jax.tree.map(lambda x: x[rows], dataset.transitions),
        fqe.initial_observations(dataset),
        jnp.concatenate([group.actions(next_observation) for group in groups]),
        jnp.concatenate([group.actions(start) for group in groups]),
        jax.random.key(FLAGS.seed),
        reward_range=(float(reward.min()), float(reward.max())),
    )


def _initial_value(group: Trained, start: np.ndarray) -> np.ndarray:
    """In the environment's rewards: exact where the run shifted none, or nothing ever ends."""
    value = group.values(start)
    if value is None:
        return np.full(len(group.seeds), np.nan)
    scale, bias = (float(x) for x in group.preprocessing[2:])
    return (critics.initial_value(value) - bias / (1.0 - group.discount)) / scale


def _critic_scores(
    group: Trained, raw: Transition, success: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Soft OPC and TD error, in the environment's rewards and their square."""
    found = group.q_values(raw)
    if found is None:
        return (np.full(len(group.seeds), np.nan),) * 2
    scale, bias = (float(x) for x in group.preprocessing[2:])
    q, next_q = found
    error = critics.td_error(q, next_q, scale * raw.reward + bias, raw.terminal, group.discount)
    return critics.soft_opc(q, success) / scale, error / scale**2


def _means(values: np.ndarray | None, group: Trained) -> np.ndarray:
    """By policy, NaN where the run did not roll it out."""
    return np.full(len(group.seeds), np.nan) if values is None else values.mean(axis=1)


def _true_values(scores: dict[str, np.ndarray], groups: list[Trained]) -> dict[str, np.ndarray]:
    """What the scores that are estimates of returns estimate: FQE's discount may be another than
    that of a run's returns, of which nothing is known then."""
    own = [_discounted(group) for group in groups]
    same = [
        v if g.discount == FLAGS.discount else v * np.nan for v, g in zip(own, groups, strict=True)
    ]
    found = {"fqe": np.concatenate(same), "initial_value": np.concatenate(own)}
    return {name: values for name, values in found.items() if name in scores}


def _discounted(group: Trained) -> np.ndarray:
    if group.discounted_returns is None:
        return np.full(len(group.seeds), np.nan)
    return group.discounted_returns


def _best(score: np.ndarray) -> int:
    if np.isnan(score).all():
        raise InputError(f"no policy has a score by {FLAGS.by}; choose by another")
    return int(np.nanargmax(score))


def _online(policies: list[tuple[Trained, int]], dataset: Dataset) -> selection.Bandit:
    """UCB over the policies, every episode from a start of its own."""
    evaluators: dict[int, Evaluator] = {}
    starts = itertools.count(FIRST_START + FLAGS.seed)

    def pull(chosen: np.ndarray) -> np.ndarray:
        group, i = policies[int(chosen[0])]
        if id(group) not in evaluators:
            spec = dataclasses.replace(group.spec, env_entry_point=dataset.spec.env_entry_point)
            prepared = dataclasses.replace(dataset, spec=spec, preprocessing=group.preprocessing)
            evaluators[id(group)] = Evaluator(group.algorithm, prepared, (), 1)
        state = jax.tree.map(lambda x: x[i], group.state)
        return evaluators[id(group)](group.config, state, later=next(starts)).episode_return

    try:
        return selection.ucb(pull, len(policies), FLAGS.num_episodes, seed=FLAGS.seed)
    finally:
        for evaluator in evaluators.values():
            evaluator.close()


def _online_instead(groups: list[Trained]) -> dict[str, Any]:
    """What choosing online would have come to, by the episodes that the runs recorded; empty unless
    every policy has some. Nobody tries one of them twice, so they are drawn without replacement."""
    if any(group.returns is None or np.isnan(group.returns).any() for group in groups):
        return {}
    num = min(group.returns.shape[1] for group in groups)
    returns = np.concatenate([group.returns[:, :num] for group in groups])
    if (n := len(returns)) < 2:
        return {}
    curve = selection.bandit_curve(returns, 10 * n, seed=FLAGS.seed)
    ucb = [
        {"episodes": t} | {name: float(values[t - 1]) for name, values in curve.items()}
        for t in (n, 2 * n, 5 * n, 10 * n)
    ]
    best = selection.expected_online_performance(returns.mean(1), replace=False)
    tried = [
        {"policies": k, "episodes": k * num, "expected_return": float(best[k - 1])}
        for k in sorted({1, 2, 4, 8, 16, n})
        if k <= n
    ]
    return {"ucb": ucb, "expected_online_performance": tried}


def _table(rows: list[dict[str, Any]], chosen: int) -> str:
    """A line a policy."""
    names = list(rows[0]["scores"])
    header = ["", "run", "algorithm", "step", "seed", *(report.SHOWN[n] for n in names), "return"]
    cells = [header]
    for p, row in enumerate(rows):
        online = row.get("online")
        cells.append(
            [
                "→" if p == chosen else "",
                *(str(row[key]) for key in ("run", "algorithm", "step", "seed")),
                *(_written(row["scores"][name]) for name in names),
                _written(row["true_return"]),
                *([f"{online['mean_return']:.1f} in {online['episodes']}"] if online else []),
            ]
        )
    if FLAGS.by == "online":
        header.append("seen in episodes")
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def _written(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _verdict(results: dict[str, Any]) -> str:
    choice, seen = results["choice"], results["environment_episodes_seen"]
    text = (
        f"the choice by {FLAGS.by}: seed {choice['seed']} of {choice['run']} at step "
        f"{choice['step']:,}; it has seen {seen:,} environment episodes"
    )
    known = [row["true_return"] for row in results["policies"] if np.isfinite(row["true_return"])]
    if np.isfinite(choice["true_return"]):
        text += (
            f"\nits true return is {choice['true_return']:.1f}, of {len(known)} policies with a "
            f"known one the best has {max(known):.1f}, their mean is {np.mean(known):.1f} and the "
            f"worst has {min(known):.1f}"
        )
    return text


def _online_table(online: dict[str, Any]) -> str:
    """What online selection would have given, by the environment episodes it takes."""
    lines = [
        "| chosen online instead, by | environment episodes | return of the choice |",
        "|---|---|---|",
    ]
    for row in online["expected_online_performance"]:
        lines.append(
            f"| the best of {row['policies']} drawn at random | {row['episodes']} | "
            f"{row['expected_return']:.1f} |"
        )
    for row in online["ucb"]:
        lines.append(
            f"| UCB | {row['episodes']} | {row['mean']:.1f} ({row['low']:.1f} to "
            f"{row['high']:.1f}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    launch(main)
