"""What the presets of several algorithms share."""

from offrl_jax.networks.modules import MLP
from offrl_jax.presets.preset import Preset

MLP_128, MLP_256 = MLP((128, 128)), MLP((256, 256))
WIDE = {"actor_network": MLP((256, 256, 256)), "critic_network": MLP((256, 256, 256))}
SMALL = {  # ours, for two CPU cores
    "actor_learning_rate": 3e-4,
    "critic_learning_rate": 1e-3,
    "target_update_rate": 0.02,
    "actor_network": MLP_128,
    "critic_network": MLP_128,
    "batch_size": 128,
}
SMALL_SOFT = SMALL | {"temperature_learning_rate": 1e-3, "initial_temperature": 0.1}


def pointmaze(config: dict) -> Preset:
    """Ours: small networks, 10,000 steps, rewards of 5 a step at the goal."""
    return Preset(config=config, num_steps=10_000, normalize_observations=True, reward_scale=5.0)


QUICK = SMALL | {
    "actor_learning_rate": 1e-3,
    "actor_network": MLP_256,
    "critic_network": MLP_256,
    "batch_size": 256,
}


def quick(config: dict, num_steps: int = 20_000) -> dict:
    """A recipe for Gym at a budget of minutes on two CPU cores."""
    return {"config": config, "num_steps": num_steps, "normalize_observations": True}


QUICK_ANT = SMALL | {"actor_learning_rate": 1e-3, "batch_size": 256}


def quick_antmaze(config: dict, num_steps: int = 60_000) -> dict:
    """A recipe for AntMaze at a budget of minutes on two CPU cores, with 100 at the goal: values
    that start at 0 are then right wherever the goal is far."""
    return quick(config, num_steps) | {"reward_scale": 100.0, "reward_bias": 0.0}


DISCRETE = {  # ours, for two CPU cores
    "target_update_rate": 0.005,
    "critic_learning_rate": 3e-4,
    "critic_network": MLP_128,
    "batch_size": 128,
}


def discrete(config: dict) -> Preset:
    """Ours, for classic control: small networks, 30,000 steps, a tenth of the rewards."""
    return Preset(config=config, num_steps=30_000, normalize_observations=True, reward_scale=0.1)
