"""The registry of algorithms: a new one is a file and a line here."""

from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.bc import bc
from offrl_jax.algorithms.cql import cql
from offrl_jax.algorithms.sac import sac

ALGORITHMS: dict[str, Algorithm] = {algorithm.name: algorithm for algorithm in (bc, sac, cql)}
