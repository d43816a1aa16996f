"""Every test runs with shape annotations checked and silent broadcasting forbidden."""

import gc
import os
import signal
from importlib.metadata import version

# Tests compile many programs and run each a little: LLVM's optimisation costs more than it saves,
# and MLIR's emitters of fusions four times what XLA's own did. XLA aborts at flags that it does not
# know: later ones have MLIR's alone.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 "
    + "--xla_cpu_use_fusion_emitters=false " * (version("jaxlib").startswith(("0.9", "0.10.")))
    + os.environ.get("XLA_FLAGS", "")
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # or commands would fill the user's

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook(
    [
        "offrl_jax.networks.distributions",
        "offrl_jax.networks.heads",
        "offrl_jax.networks.modules",
        "offrl_jax.networks.optimizers",
        "offrl_jax.networks.piecewise_linear",
        "offrl_jax.losses",
        "offrl_jax.algorithms",
        "offrl_jax.data.arrays",
        "offrl_jax.data.dataset",
        "offrl_jax.data.transforms",
        "offrl_jax.evaluation.diagnostics",
        "offrl_jax.safety",
        "offrl_jax.tabular",
    ],
    "beartype.beartype",
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what tests start would inherit that

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_traceback_in_locations_limit", 0)  # a tenth of the time of lowering
gc.set_threshold(100_000, 20, 100)  # tracing makes many objects and little garbage
jax.devices()  # starts the backend, so that no command run in this process can give it more of them


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own
def pytest_collection_modifyitems(items):
    """What shares compiled programs runs in one process: a module, or there an algorithm, unless
    the test says otherwise."""
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        algorithm, *_ = parameters.get("case", (parameters.get("algorithm"),))
        name = getattr(algorithm, "name", "")
        item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__}-{name}"))


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Else hundreds of them stay to the end: gigabytes, and more memory mappings than Linux grants
    a process, which XLA answers with a segmentation fault."""
    yield
    jax.clear_caches()
