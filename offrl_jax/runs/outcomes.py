"""How a run ends other than well."""


class AlreadyFinished(Exception):
    """The run in this directory has nothing left to do."""


class Stopped(Exception):
    """The run was asked to stop and has saved what it had; `train` with the same arguments
    resumes it."""


class RunFailed(Exception):
    """The run cannot continue for a reason outside of it; what was saved before is kept."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is a device's word that its memory does not suffice."""
    import jax

    words = "RESOURCE_EXHAUSTED", "Out of memory"
    return isinstance(error, jax.errors.JaxRuntimeError) and any(w in str(error) for w in words)
