"""Settings of the documentation: python -m sphinx -W --keep-going -b html docs docs/_build"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # from_code, and the packages of this very tree
os.environ["PYTHONPATH"] = str(HERE.parent)  # which the notebook's kernel takes too

project = "offrl_jax"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # ships MathJax, so that equations render without a network
    "from_code",
]
exclude_patterns = ["_build", "jupyter_execute"]  # the latter is myst-nb's

html_theme = "furo"
html_title = "offrl_jax"
html_static_path = ["_static"]
html_show_copyright = False
html_css_files = ["custom.css"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# A text notebook has no outputs to go stale: the one there is runs at every build, in seconds.
nb_execution_mode = "auto"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # warnings name files of the machine that builds

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_use_rtype = False
