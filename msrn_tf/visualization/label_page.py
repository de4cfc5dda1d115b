"""The page of `msrn_tf.check_labels`: one label of one photo at a time, decided by a key, saved as a file.

It holds its photos and needs no server. What it shows came from other people's files: text is set as text, never as
markup, and its Content-Security-Policy lets no script run but the one that it was written with, and nothing be fetched.
"""

import base64
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from msrn_tf.data.corrections import NAMES_OF_STATES, Decision
from msrn_tf.data.examples import ABSENT, PRESENT, Examples
from msrn_tf.data.pipeline import decoded, read_bytes
from msrn_tf.errors import printable
from msrn_tf.type_names import Progress
from msrn_tf.visualization.html import escape, photo_uri

SIDE = 448
FOLDER = pathlib.Path(__file__).parent
BODY = """
<header><h1 id="title"></h1><p id="progress"></p><progress id="bar" value="0"></progress></header>
<noscript><p>This page needs its own script to take decisions; allow it to run.</p></noscript>
<main>
<figure><img id="photo" alt=""><figcaption id="name"></figcaption></figure>
<section aria-labelledby="label">
<p class="asks">Does the photo show</p><h2 id="label"></h2>
<dl><dt>annotated</dt><dd id="annotated"></dd><dt>score of present</dt><dd id="score"></dd>
<dt>suggested</dt><dd id="suggestion"></dd><dt>decided</dt><dd id="decision"></dd></dl>
<div role="group" aria-label="Decision">
<button type="button" data-state="present">present <kbd>P</kbd></button>
<button type="button" data-state="absent">absent <kbd>A</kbd></button>
<button type="button" data-state="unknown">unknown <kbd>U</kbd></button>
<button type="button" data-state="">undo <kbd>⌫</kbd></button></div>
<div role="group" aria-label="Other questions">
<button type="button" id="previous">previous <kbd>←</kbd></button>
<button type="button" id="next">next <kbd>→</kbd></button>
<button type="button" id="open">next open one <kbd>N</kbd></button></div>
<div role="group" aria-label="File"><button type="button" id="save">save corrections.csv <kbd>S</kbd></button></div>
<p id="status" role="status" aria-live="polite"></p>
</section>
</main>
"""


@dataclasses.dataclass(frozen=True)
class Question:
    """A label of a photo to decide on: what is annotated (1 or 0), and the probability that the label is present."""

    photo: str
    label: str
    annotated: int
    score: float

    @property
    def suggestion(self) -> int:
        """The other state."""
        return ABSENT if self.annotated == PRESENT else PRESENT


def photo_addresses(examples: Examples, rows: Sequence[int], max_pixels: int, progress: Progress) -> list[str]:
    """Photos, small, as addresses within a page.

    Args:
        examples: `Examples`.
        rows: of the photos.
        max_pixels: larger photos are refused.
        progress: called with the number of photos done.
    """
    addresses = []
    for encoded in read_bytes(examples.take(np.array(rows, int))):
        photo = Image.fromarray(decoded(encoded, max_pixels).numpy())
        photo.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        addresses.append(photo_uri(photo))
        progress(len(addresses))
    return addresses


def label_page(
    name: str, questions: Sequence[Question], addresses: dict[str, str], decided: Iterable[Decision] = ()
) -> str:
    """The page's HTML.

    Args:
        name: of the data set and split.
        questions: in the order to ask them.
        addresses: dict of photo → its address within the page.
        decided: decisions that were made before: they are in the file that is saved, too.
    """
    number = {photo: place for place, photo in enumerate(addresses)}
    content = {
        "name": printable(name),
        "photos": list(addresses.values()),
        "questions": [
            {
                "photo": one.photo,
                "label": one.label,
                "shown": printable(one.label),
                "image": number[one.photo],
                "annotated": NAMES_OF_STATES[one.annotated],
                "score": f"{one.score:.3f}",
                "suggestion": NAMES_OF_STATES[one.suggestion],
            }
            for one in questions
        ],
        "decided": [[one.photo, one.label, _state(one.annotated), NAMES_OF_STATES[one.decision]] for one in decided],
    }
    data = _json(content)
    script = FOLDER.joinpath("label_page.js").read_text(encoding="utf-8")
    style = FOLDER.joinpath("label_page.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; script-src {_source(script)}; style-src {_source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><title>Labels of {escape(name)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f'<body>{BODY}<script type="application/json" id="data" data-key="{_digest(data)}">{data}</script>'
        f"<script>{script}</script></body></html>"
    )


def _state(value):
    return "" if value is None else NAMES_OF_STATES[value]


def _json(content: Any) -> str:
    """JSON in ASCII that no parser of HTML finds markup in."""
    text = json.dumps(content, ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _source(text):
    """What a Content-Security-Policy calls a script or style that is written in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]
