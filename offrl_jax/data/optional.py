"""Packages that only some sources need."""

import importlib
from types import ModuleType

from offrl_jax.types import InputError


def require(module: str, purpose: str, *, package: str | None = None) -> ModuleType:
    """Imports a module, or says what to install.

    Args:
      module: Dotted name to import.
      purpose: What needs it, the subject of the message.
      package: What pip calls it, if not the module's own name.

    Raises:
      InputError: if the module or something that it imports is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = package or module.partition(".")[0]
        raise InputError(
            f"{purpose} needs {package}, which does not import here ({error}); "
            f'pip install "{package}"'
        ) from error
