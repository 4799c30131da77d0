"""What results show besides what IPython shows: data of frames and charts, JSON, images."""

import datetime
import decimal
import importlib.util
import json
import math
import os
import sys

from IPython.core.formatters import BaseFormatter
from IPython.display import display
from traitlets import ObjectName, Unicode

# Cells of a frame that are sent as data. A larger one is shown, and read from a file.
MOST_CELLS = 1_000_000


class DataFormatter(BaseFormatter):
    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = dict


class ChartFormatter(BaseFormatter):
    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = dict

    def __call__(self, value):
        # Not by registration: whatever is registered for figures, matplotlib removes when it sets
        # up its own formats.
        figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
        if figure is not None and isinstance(value, figure):
            return figure_chart(value)
        return None


def plain(value):
    """The value in JSON's terms: times in ISO 8601, and nothing for what is no number."""
    if value is None or isinstance(value, (bool, int, str)):
        return value if type(value).__module__ == "builtins" else json.loads(json.dumps(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (datetime.date, datetime.time)):
        return None if value != value else value.isoformat()
    if isinstance(value, decimal.Decimal):
        return plain(float(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def frame_data(frame):
    """A data frame by columns."""
    if frame.size > MOST_CELLS:
        return None
    return plain(frame.to_dict(orient="list"))


def figure_chart(figure):
    """What a matplotlib figure draws."""
    from e2b_charts import chart_figure_to_dict

    try:
        # An unusual figure still has its image, so that its data cannot be read is no error.
        return plain(chart_figure_to_dict(figure)) or None
    except Exception:
        return None


def as_json(value):
    """The value itself where all of it is JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return value


def show_images():
    """An image that is shown, or saved to a file, is shown to the client."""
    from PIL import Image

    save = Image.Image.save

    def save_and_display(image, fp, format=None, **parameters):
        save(image, fp, format, **parameters)
        if isinstance(fp, (str, os.PathLike)):
            display(image)

    Image.Image.save = save_and_display
    Image.Image.show = lambda image, *_arguments, **_parameters: display(image)


def load_ipython_extension(shell):
    formatter = shell.display_formatter
    data = DataFormatter(parent=formatter)
    # Where pandas says that a frame's type is depends on its version.
    data.for_type_by_name("pandas", "DataFrame", frame_data)
    data.for_type_by_name("pandas.core.frame", "DataFrame", frame_data)
    chart = ChartFormatter(parent=formatter)
    formatter.formatters[data.format_type] = data
    formatter.formatters[chart.format_type] = chart
    for kind in (dict, list):
        formatter.formatters["application/json"].for_type(kind, as_json)
    if importlib.util.find_spec("PIL"):
        show_images()
