"""Heat-maps that a server or a device computed, laid over the photo and written to files."""

import os

from PIL import Image, ImageOps

from msrn_tf.visualization.heatmap_files import heatmap_path
from msrn_tf.visualization.heatmaps import enlarge, overlay


def open_upright(path):
    """A photo as people see it: RGB `PIL.Image`, turned by its EXIF tag."""
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def write_heatmap(path, label, attention, folder):
    """Writes `PHOTO_LABEL.jpg` for a map `[h, w]` in [0, 1]; returns the file's path."""
    photo = open_upright(path)
    name = os.path.splitext(os.path.basename(path))[0]
    file = heatmap_path(folder, name, label)
    overlay(photo, enlarge(attention, photo.size)).save(file, quality=92)
    return file
