from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def private_folders(tmp_path, monkeypatch):
    """No test reads or writes the user's own cache or datasets."""
    monkeypatch.setenv("OFFRL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("MINARI_REMOTE", raising=False)


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder shared/data beside the repository is absent")
    return SHARED


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    """Two episodes in D4RL's layout, one with a true end after 3 steps, one timed out after 2."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(5, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (5, 2)).astype(np.float32),
        "rewards": np.arange(1.0, 6.0, dtype=np.float32),
        "terminals": np.array([0, 0, 1, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1], bool),
        "next_observations": rng.normal(size=(5, 3)).astype(np.float32),
    }
