"""Configuration of the Python kernel: no colours, no history on disk, and richer results."""

import importlib.util
import pathlib
import sys

# Known by a name of its own, so that neither a path nor a name of the user's is in the way.
_spec = importlib.util.spec_from_file_location(
    "courier_display", pathlib.Path(__file__).with_name("courier_display.py")
)
_module = importlib.util.module_from_spec(_spec)
sys.modules["courier_display"] = _module
_spec.loader.exec_module(_module)

c = get_config()  # noqa: F821
c.InteractiveShell.colors = "nocolor"
c.HistoryManager.enabled = False
c.IPKernelApp.extensions = ["courier_display"]
