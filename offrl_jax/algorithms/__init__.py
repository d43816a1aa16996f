"""The registry of algorithms: a new one is a file and a line here."""

from offrl_jax.algorithms.abm import abm
from offrl_jax.algorithms.awac import awac
from offrl_jax.algorithms.awr import awr
from offrl_jax.algorithms.base import Algorithm
from offrl_jax.algorithms.bc import bc
from offrl_jax.algorithms.bcq import bcq
from offrl_jax.algorithms.bcq_discrete import bcq_discrete
from offrl_jax.algorithms.bear import bear
from offrl_jax.algorithms.brac import brac
from offrl_jax.algorithms.cql import cql
from offrl_jax.algorithms.cql_discrete import cql_discrete
from offrl_jax.algorithms.crr import crr
from offrl_jax.algorithms.dqn import dqn
from offrl_jax.algorithms.edac import edac
from offrl_jax.algorithms.iql import iql
from offrl_jax.algorithms.marwil import marwil
from offrl_jax.algorithms.qt_opt import qt_opt
from offrl_jax.algorithms.rebrac import rebrac
from offrl_jax.algorithms.sac import sac
from offrl_jax.algorithms.td3_bc import td3_bc

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        *(bc, sac, qt_opt),
        *(bcq, bear, brac, td3_bc, rebrac),
        *(awr, awac, crr, abm, marwil, iql),
        *(cql, edac),
        *(dqn, bcq_discrete, cql_discrete),
    )
}
