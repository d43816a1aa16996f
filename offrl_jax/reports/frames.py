"""Frames of a trained policy. They are taken in a process of its own, since a renderer without a
screen may take its process down or never answer."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np

from offrl_jax import environments
from offrl_jax.runs.policy import load_policy
from offrl_jax.types import InputError

RENDERERS = "egl", "osmesa"  # of MuJoCo without a screen, unless MUJOCO_GL says which
HEIGHT = 240  # pixels that a frame has at most


def filmed(
    run_dir: Path, seed_index: int, num_frames: int, timeout: float = 120.0
) -> list[np.ndarray]:
    """Equally spaced frames of the first episode that evaluations play, (height, width, 3) bytes.

    Args:
      run_dir: Of a finished run.
      seed_index: Which of its seeds, counted from 0.
      num_frames: How many, at most.
      timeout: Seconds that a renderer may take.

    Raises:
      InputError: if nothing could be rendered, with the reason.
    """
    load_policy(run_dir, seed_index)  # refuses before any process is started
    spawn, why = multiprocessing.get_context("spawn"), ""
    given = os.environ.get("MUJOCO_GL")
    for renderer in (given,) if given else RENDERERS:
        with tempfile.TemporaryDirectory() as folder:
            frames, error = Path(folder) / "frames.npy", Path(folder) / "error"
            arguments = run_dir, seed_index, num_frames, renderer, frames, error
            process = spawn.Process(target=_film, args=arguments)
            process.start()
            process.join(timeout)
            if process.is_alive():
                process.kill()
                process.join()
                why = f"no answer in {timeout:g} s"
            elif process.exitcode == 0 and frames.exists():
                return list(np.load(frames))
            else:
                why = f"its process ended with {process.exitcode}"
            with contextlib.suppress(OSError):
                why = error.read_text()
    raise InputError(f"no frames of {run_dir} could be rendered ({why})")


def _film(
    run_dir: Path, seed_index: int, num_frames: int, renderer: str, target: Path, error: Path
) -> None:
    os.environ["MUJOCO_GL"] = renderer  # read when MuJoCo is imported, which is now
    try:
        frames = film(run_dir, seed_index, num_frames)
    except Exception as why:  # whatever a renderer raises
        error.write_text(f"{type(why).__name__}: {why}")
        return
    np.save(target, np.stack(frames))


def film(run_dir: Path, seed_index: int, num_frames: int) -> list[np.ndarray]:
    """As `filmed`, in this process; raises what the environment's renderer raises."""
    policy = load_policy(run_dir, seed_index)
    kwargs = json.loads(policy.spec.env_kwargs) | {"render_mode": "rgb_array"}
    env = environments.make_from_spec(
        dataclasses.replace(policy.spec, env_kwargs=json.dumps(kwargs))
    )
    with contextlib.suppress(AttributeError, KeyError):  # most walkers would leave the picture
        env.unwrapped.mujoco_renderer.camera_id = env.unwrapped.model.camera("track").id
    frames: list[np.ndarray] = []
    observation, is_over, step, stride = env.reset(seed=0)[0], False, 0, 1
    while not is_over:
        if step % stride == 0:
            frame = np.asarray(env.render(), np.uint8)
            shrink = -(-frame.shape[0] // HEIGHT)
            frames.append(frame[::shrink, ::shrink])
        if len(frames) == 2 * num_frames:  # its length is not known before
            frames, stride = frames[::2], 2 * stride
        observation, _, terminated, truncated, _ = env.step(policy(observation))
        is_over, step = terminated or truncated, step + 1
    env.close()
    chosen = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)
    return [frames[i] for i in chosen]
