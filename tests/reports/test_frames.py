"""Frames of a policy: which they are, and what is said where there are none."""

import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from offrl_jax import ALGORITHMS, data, environments, init
from offrl_jax.policy import save_policy
from offrl_jax.reports import figures, frames
from offrl_jax.types import InputError


class Stub:
    """An environment that ends after `length` steps and whose picture is the step's number."""

    def __init__(self, length):
        self.length, self.step_number, self.closed = length, 0, False

    def reset(self, seed):
        assert seed == 0
        return np.zeros(2), {}

    def render(self):
        return np.full((900, 600, 3), self.step_number)

    def step(self, action):
        self.step_number += 1
        return np.zeros(2), 0.0, self.step_number == self.length, False, {}

    def close(self):
        self.closed = True


@pytest.mark.parametrize("length, number", [(1, 8), (5, 8), (8, 8), (100, 8), (1000, 3), (64, 1)])
def test_frames_are_equally_spaced_over_an_episode_of_any_length(monkeypatch, length, number):
    env = Stub(length)

    class Policy:
        spec = data.from_arrays(
            np.ones((2, 2)), np.zeros((2, 1)), np.ones(2), np.zeros(2), env_id="Hopper-v5"
        ).spec

        def __call__(self, observation):
            return np.zeros(1)

    def make(spec):
        assert '"render_mode": "rgb_array"' in spec.env_kwargs
        return env

    monkeypatch.setattr(frames, "load_policy", lambda run_dir, seed_index: Policy())
    monkeypatch.setattr(environments, "make_from_spec", make)
    found = [int(frame[0, 0, 0]) for frame in frames.film("run", 0, number)]
    assert len(found) == min(number, length) and found[0] == 0 and env.closed
    gaps = np.diff(found)
    assert len(gaps) == 0 or (gaps.max() <= 2 * gaps.min() and found[-1] + gaps.max() >= length - 2)


def test_large_pictures_are_shrunk(monkeypatch):
    policy = SimpleNamespace(spec=None)
    assert policy.spec is None
    strip = figures.strip("s", "alt", [np.zeros((240, 160, 3), np.uint8)] * 5)
    from matplotlib import image
    import io

    assert image.imread(io.BytesIO(strip.png)).shape[:2] == (2 * 244, 4 * 164)


def test_a_maze_is_filmed_or_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    dataset = data.load("pointmaze/umaze-600")
    bc = ALGORITHMS["bc"]
    config = bc.Config(hidden_sizes=(8,))
    state = init(bc, config, dataset.spec, jax.random.split(jax.random.key(0), 1))
    save_policy(tmp_path / "policy", bc, config, state, dataset.spec, dataset.preprocessing)
    try:
        found = frames.filmed(tmp_path, 0, 3)
    except InputError as error:
        pytest.skip(str(error))
    assert len(found) == 3 and all(frame.std() > 5 for frame in found)


def test_a_renderer_that_does_not_exist_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "load_policy", lambda run_dir, seed_index: None)
    monkeypatch.setenv("MUJOCO_GL", "none-such")
    with pytest.raises(InputError, match="no frames of .* could be rendered"):
        frames.filmed(tmp_path, 0, 3)
    assert os.environ["MUJOCO_GL"] == "none-such"
