"""Exports a trained policy as a program that needs only JAX."""

from pathlib import Path

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.api.run import Run
from offrl_jax.networks.values import Networks
from offrl_jax.runs.policy import load_policy
from offrl_jax.types import InputError


def export(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    seed_index: int = 0,
    algorithm: Algorithm | None = None,
    networks: Networks | None = None,
) -> Path:
    """Writes a policy as a program that `jax.export.deserialize` reads.

    The program maps raw float32 observations (b, O) to actions (b, A) in the environment's bounds,
    or to indices (b,) of discrete actions.

    Args:
      run: A run, or its directory.
      output: The file; by default `policy.jaxexport` in the run's directory.
      seed_index: Which of the run's seeds, counted from 0.
      algorithm: As for `load_run`, of a run that is given as a directory.
      networks: As for `load_run`.

    Returns:
      The file.

    Raises:
      InputError: if there is no such policy, a run in memory is exported without `output`, or the
        file cannot be written.
    """
    if isinstance(run, Run):
        policy, folder = run.policy(seed_index), run.path
    else:
        policy = load_policy(run, seed_index, algorithm=algorithm, networks=networks)
        folder = Path(run).expanduser()
    if output is None and folder is None:
        raise InputError(f"{run} has no directory; give the file as output=…")
    path = Path(output or folder / "policy.jaxexport")
    policy.export(path)
    return path
