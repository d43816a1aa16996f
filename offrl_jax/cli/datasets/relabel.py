"""`offrl datasets relabel`: gives maze data with many goals a single one."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from offrl_jax import environments
from offrl_jax.cli.command_line import FLAGS
from offrl_jax.data.fixed_goal import FIELDS, aim_at
from offrl_jax.data.sources import columns, d4rl_hdf5, hdf5
from offrl_jax.files import replacing
from offrl_jax.types import InputError

POSITION_NOISE = 0.025


def relabel(name: str) -> None:
    source, output = Path(name), _output()
    if not source.is_file():
        raise InputError(f"{source} is not a file; give the path of an HDF5 file in D4RL's layout")
    import h5py

    with hdf5.opened(str(source)) as file:
        columns.check_keys(str(source), list(file))
        arrays = hdf5.arrays(str(source), file, [key for key in FIELDS if key in file])
        attributes = d4rl_hdf5.attributes_of(file)
    env_id = FLAGS.env_id or attributes.get("env_id")
    if not isinstance(env_id, str):
        raise InputError(f"{source} names no environment; give env_id=…")
    goal_cell = _cell("goal_cell")
    start_cell = _cell("start_cell") if FLAGS.start_cell else None
    task = {} if FLAGS.env_id else d4rl_hdf5.task_of(str(source), attributes)
    env_kwargs = task.get("env_kwargs", {})
    goal, maze_map, limit = _maze(env_id, env_kwargs, goal_cell, start_cell)
    relabelled = aim_at(arrays, goal)
    env_kwargs |= {
        "maze_map": maze_map,
        "continuing_task": False,
        "position_noise_range": POSITION_NOISE,
    }
    kept = {k: v for k, v in attributes.items() if k not in ("ref_min_score", "ref_max_score")}
    attributes = kept | {
        "env_id": env_id,
        "env_kwargs": json.dumps(env_kwargs),
        "max_episode_steps": FLAGS.max_episode_steps or task.get("max_episode_steps", limit),
        "relabelled": f"goal {goal.tolist()} (cell {goal_cell})",
    }
    try:
        with replacing(output) as partial, h5py.File(partial, "w") as file:
            for key, array in relabelled.items():
                file[key] = array
            file.attrs.update(attributes)
    except OSError as error:
        raise InputError(f"output {output} cannot be written ({error}); give another") from error
    ends = relabelled["terminals"] | relabelled["timeouts"]
    print(
        f"{output}: {len(ends):,} of {len(arrays['rewards']):,} transitions in "
        f"{int(ends.sum()):,} episodes, "
        f"{int(relabelled['terminals'].sum()):,} of which reach the goal at {goal.tolist()}"
    )


def _output() -> Path:
    if not FLAGS.output:
        raise InputError("no output=… is given; give the path of an HDF5 file to write")
    output = Path(FLAGS.output)
    if output.exists() or not output.parent.is_dir():
        why = "exists already" if output.exists() else f"has no folder {output.parent}"
        raise InputError(f"output {output} {why}; give another path")
    return output


def _cell(name: str) -> tuple[int, int]:
    try:
        row, column = map(int, FLAGS[name].value)
    except ValueError as error:
        raise InputError(
            f"{name}={','.join(FLAGS[name].value)} is not a cell; give row,column"
        ) from error
    return row, column


def _maze(
    env_id: str,
    env_kwargs: dict[str, Any],
    goal_cell: tuple[int, int],
    start_cell: tuple[int, int] | None,
):
    """Position of the goal, the map with goal and starts marked, and the time limit."""
    env = environments.make(env_id, env_kwargs)
    maze, limit = getattr(env.unwrapped, "maze", None), env.spec.max_episode_steps
    env.close()
    if maze is None:
        raise InputError(f"{env_id} is not a maze; give env_id=… of one")
    maze_map = [[1 if mark == 1 else 0 for mark in row] for row in maze.maze_map]
    free = [(i, j) for i, row in enumerate(maze_map) for j, wall in enumerate(row) if not wall]
    for name, cell in (("goal_cell", goal_cell), ("start_cell", start_cell)):
        if cell and cell not in free:
            raise InputError(
                f"{name}={cell} is a wall or outside the map; free are {', '.join(map(str, free))}"
            )
    if goal_cell == start_cell:
        raise InputError(f"goal_cell and start_cell are both {goal_cell}; give different ones")
    maze_map[goal_cell[0]][goal_cell[1]] = "g"
    for i, j in free if start_cell is None else [start_cell]:
        if (i, j) != goal_cell:
            maze_map[i][j] = "r"
    return maze.cell_rowcol_to_xy(np.array(goal_cell)), maze_map, limit
