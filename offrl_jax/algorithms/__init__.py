"""The registry of algorithms: a new one is a file and a line here."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offrl_jax.algorithms.base import Algorithm

NAMES = (  # of modules here, each with an `Algorithm` of the same name
    *("bc", "sac", "qt_opt"),
    *("bcq", "bear", "brac", "td3_bc", "rebrac"),
    *("awr", "awac", "crr", "abm", "marwil", "iql"),
    *("cql", "edac"),
    *("dqn", "bcq_discrete", "cql_discrete"),
)


class _Registry(Mapping):
    """Algorithms by name, each imported when it is first looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in NAMES:
            from offrl_jax.algorithms.base import UnknownAlgorithm
            from offrl_jax.types import did_you_mean

            raise UnknownAlgorithm(
                f"there is no algorithm {name!r}{did_you_mean(str(name), NAMES)} "
                f"(there are {', '.join(NAMES)})"
            )
        return getattr(importlib.import_module(f"{__name__}.{name}"), name)

    def __contains__(self, name: object) -> bool:
        return name in NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    def __repr__(self) -> str:
        return f"ALGORITHMS({', '.join(NAMES)})"


ALGORITHMS: Mapping[str, "Algorithm"] = _Registry()


def check_own_name(algorithm: "Algorithm") -> None:
    """Raises InputError if an algorithm that differs from the library's has its name, since files
    that name it would be read as the library's."""
    from offrl_jax.types import InputError

    if algorithm.name in NAMES and algorithm != ALGORITHMS[algorithm.name]:
        raise InputError(
            f"the algorithm differs from the library's {algorithm.name} but has its name, by which "
            'files would be read; give it another, algorithm._replace(name="mine")'
        )


def known(algorithm: "Algorithm | None") -> Mapping[str, "Algorithm"]:
    """What a file may name where the user gives this algorithm: it alone, or without one ours."""
    if algorithm is None:
        return ALGORITHMS
    from offrl_jax.algorithms.base import check_algorithm

    check_algorithm(algorithm)
    return {algorithm.name: algorithm}
