"""Sphinx's configuration; scripts/docs builds with it, warnings as errors."""

import sys
from pathlib import Path

import pyzcrx

HERE = Path(__file__).parent
# At the end of the path: pyzcrx itself is the installed wheel, with its compiled modules.
sys.path += [str(HERE), str(HERE.parent)]

project = "pyzcrx"
author = "the pyzcrx developers"
project_copyright = author
version = release = pyzcrx.__version__
extensions = ["sphinx.ext.autodoc", "myst_parser", "sphinx_click", "_site.extension"]
exclude_patterns = ["_site"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

# An option is --fix, with two hyphens.
smartquotes = False

html_theme = "furo"
html_title = f"pyzcrx {release}"
html_static_path = ["_static"]
html_css_files = ["pyzcrx.css"]
# Nothing is fetched from elsewhere by the pages: the theme uses the system's fonts.
html_show_sphinx = False
html_copy_source = False
