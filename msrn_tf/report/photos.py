"""Photos of the report: small, with what spoke for a label laid over them."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from msrn_tf.choices import MAX_PIXELS
from msrn_tf.data.decoding import resize
from msrn_tf.data.examples import Examples
from msrn_tf.data.pipeline import decoded, read_bytes
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.report.findings import Finding
from msrn_tf.type_names import Progress
from msrn_tf.visualization.heatmaps import combine_scales, overlay
from msrn_tf.visualization.html import photo_uri

SIDE = 168


class PhotoShelf:
    """Holds the photos that a report shows, small, with the attention maps of the labels they are shown for.

    Args:
        model: with or without attention.
        examples: all of the split.
        findings: list of `Finding`: which photos, for which labels.
        max_pixels: larger photos are refused.
        progress: called with the number of photos done.
    """

    def __init__(
        self,
        model: MultiLabelClassifier,
        examples: Examples,
        findings: Iterable[Finding],
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ):
        self._photos, self._maps = {}, {}
        wanted = {}
        for finding in findings:
            wanted.setdefault(finding.image, set()).add(finding.label)
        images = sorted(wanted)
        contents = read_bytes(examples.take(np.array(images, int)))
        for done, (image, encoded) in enumerate(zip(images, contents, strict=True)):
            pixels = decoded(encoded, max_pixels)
            photo = Image.fromarray(pixels.numpy())
            photo.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            self._photos[image] = photo
            if model.explains:
                _, maps = model.classify_and_explain(resize(pixels, model.image_size)[None])
                for label in wanted[image]:
                    self._maps[image, label] = [np.asarray(scale[0, label]) for scale in maps]
            if progress:
                progress(done + 1)

    def photo(self, image: int) -> str:
        """The address of the bare photo."""
        return photo_uri(self._photos[image])

    def heatmaps(self, finding: Finding) -> list[tuple[str, str]]:
        """`[(caption, address)]` of the maps of the three scales, each by itself."""
        return [(f"{m.shape[0]}×{m.shape[1]}", self._overlay(finding, [m])) for m in self._scales(finding)]

    def heatmap(self, finding: Finding) -> str | None:
        """The address of the photo with all scales together; None for a model without attention."""
        scales = self._scales(finding)
        return self._overlay(finding, scales) if scales else None

    def _scales(self, finding):
        return self._maps.get((finding.image, finding.label), [])

    def _overlay(self, finding, scales):
        photo = self._photos[finding.image]
        return photo_uri(overlay(photo, combine_scales(scales, photo.size)))
