"""Frames of a policy: which they are, and what is said where there are none."""

import io

import jax
import numpy as np
import pytest
from matplotlib import image

from offrl_jax import ALGORITHMS, data, environments, init
from offrl_jax.networks.modules import MLP
from offrl_jax.reports import figures, frames
from offrl_jax.runs.policy import save_policy
from offrl_jax.types import InputError
from tests.toy import toy_dataset


class Stub:
    """An environment that ends after `length` steps and whose picture is the step's number."""

    def __init__(self, length):
        self.length, self.step_number, self.closed = length, 0, False

    def reset(self, seed):
        assert seed == 0
        return np.zeros(2), {}

    def render(self):
        return np.full((900, 600, 3), self.step_number % 256)

    def step(self, action):
        self.step_number += 1
        return np.zeros(2), 0.0, self.step_number == self.length, False, {}

    def close(self):
        self.closed = True


@pytest.mark.parametrize("length, number", [(1, 8), (5, 8), (8, 8), (100, 8), (200, 3), (64, 1)])
def test_frames_are_equally_spaced_over_an_episode_of_any_length(monkeypatch, length, number):
    env = Stub(length)

    class Policy:
        spec = toy_dataset().spec

        def __call__(self, observation):
            return np.zeros(2)

    def make(spec):
        assert '"render_mode": "rgb_array"' in spec.env_kwargs
        return env

    monkeypatch.setattr(frames, "load_policy", lambda run_dir, seed_index: Policy())
    monkeypatch.setattr(environments, "make_from_spec", make)
    film = frames.film("run", 0, number)
    assert {frame.shape for frame in film} == {(225, 150, 3)}
    found = [int(frame[0, 0, 0]) for frame in film]
    assert len(found) == min(number, length) and found[0] == 0 and env.closed
    gaps = np.diff(found)
    assert len(gaps) == 0 or (gaps.max() <= 2 * gaps.min() and found[-1] + gaps.max() >= length - 2)


def test_a_strip_has_rows_of_four_in_order():
    shades = [np.full((240, 160, 3), 40 * i, np.uint8) for i in range(5)]
    picture = image.imread(io.BytesIO(figures.strip("s", "alt", shades).png))[..., 0]
    assert picture.shape == (2 * 244, 4 * 164)
    middles = [picture[122 + 244 * (i // 4), 82 + 164 * (i % 4)] * 255 for i in range(8)]
    np.testing.assert_allclose(middles, [0, 40, 80, 120, 160, 255, 255, 255], atol=1)


@pytest.fixture(scope="module")
def maze_run(tmp_path_factory):
    """A folder with an untrained policy of a maze."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFRL_JAX_CACHE", str(folder / "cache"))
        dataset = data.load_dataset("pointmaze/umaze-600")
    bc = ALGORITHMS["bc"]
    config = bc.Config(network=MLP((8,)))
    state = init(bc, config, dataset.spec, jax.random.split(jax.random.key(0), 1))
    save_policy(
        folder / "policy",
        bc,
        config,
        state=state,
        spec=dataset.spec,
        preprocessing=dataset.preprocessing,
    )
    return folder


def test_a_maze_is_filmed_or_the_reason_is_told(maze_run):
    try:
        film = frames.filmed(maze_run, 0, 3)
    except InputError as error:
        pytest.skip(str(error))
    assert len(film) == 3 and all(frame.std() > 5 for frame in film)


def test_a_renderer_that_fails_is_told_in_a_sentence(maze_run, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "none-such")
    with pytest.raises(InputError, match=r"no frames of .* could be rendered \(.*none-such"):
        frames.filmed(maze_run, 0, 3)


def test_a_renderer_that_never_answers_is_ended(maze_run, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(InputError, match=r"no answer in 0\.01 s"):
        frames.filmed(maze_run, 0, 3, timeout=0.01)
