"""The ways in which a run does not end normally."""


class AlreadyFinished(Exception):
    """The run in this directory has nothing left to do."""


class Stopped(Exception):
    """The run was asked to stop and has saved its state; `train` with the same arguments resumes
    it."""


class RunFailed(Exception):
    """The run cannot continue for a reason outside of it; what was saved before is kept."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device reports that it is out of memory."""
    import jax

    words = "RESOURCE_EXHAUSTED", "Out of memory"
    return isinstance(error, jax.errors.JaxRuntimeError) and any(w in str(error) for w in words)
