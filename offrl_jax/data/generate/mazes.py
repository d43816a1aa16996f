"""The PointMaze tasks: one fixed goal cell in each of the three maps."""

from typing import Any, NamedTuple

import numpy as np

Cell = tuple[int, int]  # row, column


class Maze(NamedTuple):
    """A task expressed as a registered environment, its arguments and its time limit."""

    env_id: str
    horizon: int
    layout: tuple[str, ...]  # '#' wall, '.' free, 'g' free and the goal

    @property
    def env_kwargs(self) -> dict[str, Any]:
        marks = {"#": 1, ".": 0, "g": "g"}
        return {
            "maze_map": [[marks[mark] for mark in row] for row in self.layout],
            "continuing_task": True,
            "reset_target": False,
        }

    @property
    def cells(self) -> list[Cell]:
        """Every cell without a wall."""
        return [
            (i, j) for i, row in enumerate(self.layout) for j, mark in enumerate(row) if mark != "#"
        ]

    @property
    def goal(self) -> Cell:
        return next((i, j) for i, j in self.cells if self.layout[i][j] == "g")

    def position(self, cell: Cell) -> np.ndarray:
        """Centre of a cell; the map's centre is the origin, cells measure 1, rows run downward."""
        i, j = cell
        return np.array([j + 0.5 - len(self.layout[0]) / 2, len(self.layout) / 2 - i - 0.5])

    def cell(self, position: np.ndarray) -> Cell:
        x, y = position
        return int(len(self.layout) / 2 - y), int(x + len(self.layout[0]) / 2)


MAZES = {
    "umaze": Maze(
        "PointMaze_UMaze-v3",
        300,
        (
            "#####",
            "#g..#",
            "###.#",
            "#...#",
            "#####",
        ),
    ),
    "medium": Maze(
        "PointMaze_Medium-v3",
        600,
        (
            "########",
            "#..##..#",
            "#..#...#",
            "##...###",
            "#..#...#",
            "#.#..#.#",
            "#...#.g#",
            "########",
        ),
    ),
    "large": Maze(
        "PointMaze_Large-v3",
        800,
        (
            "############",
            "#....#.....#",
            "#.##.#.#.#.#",
            "#......#...#",
            "#.####.###.#",
            "#..#.#.....#",
            "##.#.#.#.###",
            "#..#...#..g#",
            "############",
        ),
    ),
}
