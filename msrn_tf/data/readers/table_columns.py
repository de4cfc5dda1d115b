"""What the columns of a table are: which names photos, splits and groups, and which hold labels, in which form."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_choice import shown
from msrn_tf.data.photos import PHOTO_SUFFIXES
from msrn_tf.data.readers.label_lists import labels_in_list
from msrn_tf.data.readers.table_file import can_be_text, column_of, text_column
from msrn_tf.data.splits import USUAL_NAMES
from msrn_tf.data.targets import ABSENT, PRESENT, UNKNOWN
from msrn_tf.errors import UserError

IMAGE_COLUMNS = (
    "image", "file_name", "filename", "image_path", "imagepath", "image path", "filepath", "file_path", "path",
    "image_name", "imagename", "image name", "image_id", "imageid", "image id", "image index", "image_index",
    "image_file", "image_filename", "img", "img_path", "img_name", "photo", "picture", "file", "image_url", "url", "id",
)  # fmt: skip
LIST_COLUMNS = (
    "labels", "label", "tags", "tag", "classes", "class", "categories", "category", "finding labels", "finding_labels",
    "attributes", "attribute_ids", "keywords", "genres", "genre", "targets", "target", "label_names", "class_name",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "split_name", "subset", "partition", "set", "fold", "data set", "dataset", "ml_use")
UNASSIGNED = "unassigned"  # as Vertex AI says of photos that are to be divided
VALIDATION_COLUMNS = ("is_valid", "is_val", "is_validation")
GROUP_COLUMNS = ("patient id", "patient_id", "patientid", "patient", "subject_id", "subject id", "group")
OTHER_COLUMNS = frozenset(
    (*SPLIT_COLUMNS, *GROUP_COLUMNS, "sex", "gender", "age", "index", "unnamed: 0", "width", "height", "row", "number")
)
BOX_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("bbox",),
)
NEARLY_ALL = 0.9
WORDS = {
    "1": 1, "true": 1, "yes": 1, "y": 1, "x": 1, "t": 1, "positive": 1, "present": 1,
    "0": 0, "false": 0, "no": 0, "n": 0, "f": 0, "negative": 0, "absent": 0,
    "-1": -1, "uncertain": -1, "unknown": -1, "unsure": -1, "maybe": -1, "?": -1, "u": -1,
    "": None, "nan": None, "na": None, "n/a": None, "null": None,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of columns: of photos, labels, splits, groups (None: none such); whether labels are lists in one column."""

    image: str
    labels: tuple[str, ...]
    are_lists: bool
    split: str | None
    group: str | None


def find_columns(table: pyarrow.Table, options: FormOptions, where: str) -> Columns:
    """What columns are, by their names and what they hold.

    Args:
        table: of `table_file.read_table`.
        options: what a person says of them.
        where: the start of a sentence about the table.

    Raises:
        UserError: no column can be that of photos or labels, or several can.
    """
    image = _named(table, options, "image_column", where) or _image_column(table, where)
    split = _named(table, options, "split_column", where) or _split_column(table)
    group = _named(table, options, "group_column", where)
    others = [name for name in table.column_names if name and name not in (image, split, group)]
    chosen = _chosen_labels(table, options, where)
    if chosen:
        are_lists = len(chosen) == 1 and not is_states(table, chosen[0])
        wrong = [name for name in chosen if not are_lists and not is_states(table, name)]
        if wrong:
            raise UserError(
                f"{where}: column {wrong[0]!r} of `label_columns` holds {_sample(table, wrong[0])}, which is not a "
                "state of a label; name one column of lists, or columns of 1, 0 and -1"
            )
        return Columns(image, chosen, are_lists, split, group)
    others = [name for name in others if name.casefold() not in OTHER_COLUMNS]
    listed = column_of(table.select(others), LIST_COLUMNS)
    states = [name for name in others if is_states(table, name)]
    if listed and not (listed in states and len(states) > 1):
        _refuse_two_forms(table, listed, states, where)
        return Columns(image, (listed,), True, split, group)
    if states:
        for name in others:
            _refuse_nearly_states(table, name, where)
        return Columns(image, tuple(states), False, split, group)
    raise UserError(
        f"{where}: no column holds labels ({shown(table.column_names)}); its first line must name the columns, such "
        "as image,labels; or say which with `label_columns`"
    )


def is_states(table: pyarrow.Table, name: str) -> bool:
    """Whether a column says of each photo if it shows a label: 1, 0, −1, yes, no, blank; not all are blank."""
    if not can_be_text(table.column(name).type):
        return False
    values = {word_of(value) for value in table.column(name).unique().to_pylist()}
    return values <= WORDS.keys() and any(WORDS[value] is not None for value in values)


def _refuse_nearly_states(table, name, where):
    """Refuses a column that looks like a label's, but for some of its fields: it would be left out else."""
    if is_states(table, name) or not can_be_text(table.column(name).type):
        return
    counts = {word_of(item["values"]): item["counts"] for item in table.column(name).value_counts().to_pylist()}
    known = sum(count for word, count in counts.items() if WORDS.get(word) is not None)
    strange = next((word for word in counts if word not in WORDS), None)
    total = sum(count for word, count in counts.items() if WORDS.get(word, 0) is not None)
    if strange is not None and known > NEARLY_ALL * total:
        raise UserError(
            f"{where}: column {name!r} has {strange[:60]!r} where others are 1, 0 or -1; fix it, or name the columns "
            "of labels with `label_columns`"
        )


def are_boxes(table: pyarrow.Table) -> bool:
    """Whether each row is of one box in a photo, so that photos may have several."""
    return any(all(column_of(table, [corner]) for corner in corners) for corners in BOX_CORNERS)


def states_of(table: pyarrow.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column's states: int8 `[N]` of 1, 0 and −1, and where it is blank, bool `[N]`."""
    column: Any = table.column(name).combine_chunks().dictionary_encode()
    words = [WORDS[word_of(value)] for value in column.dictionary.to_pylist()]
    places = column.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    values = np.array([0 if word is None else word for word in words] + [0], np.int8)
    return values[places], np.array([word is None for word in words] + [True])[places]


def with_policies(states: np.ndarray, blanks: np.ndarray, options: FormOptions, where: str) -> tuple[np.ndarray, str]:
    """Targets of columns of states, and what was made of −1 and of blanks, in a few words.

    −1 beside 0 is unknown, and absent where there is no 0 (as CelebA has it). A blank is unknown where there are zeros,
    and absent in a table of nothing but crosses.

    Args:
        states, blanks: `[N, C]` of `states_of`.
        options: `uncertain` and `blanks` decide otherwise.
        where: the start of a sentence about the table.

    Raises:
        UserError: there are 1, −1 and blanks: nobody can tell which of them is absent.
    """
    has_zero, has_minus = bool(((states == ABSENT) & ~blanks).any()), bool((states == UNKNOWN).any())
    has_blank, uncertain, blank = bool(blanks.any()), options.uncertain, options.blanks
    if has_minus and has_blank and not has_zero and uncertain == "auto":
        raise UserError(
            f"{where}: has 1, -1 and blanks, and no 0: say what -1 means with `uncertain`=unknown, present or absent"
        )
    if uncertain == "auto":
        uncertain = "unknown" if has_zero else "absent"
    if blank == "auto":
        blank = "unknown" if has_zero or (has_minus and uncertain != "unknown") else "absent"
    meaning = {"unknown": UNKNOWN, "present": PRESENT, "absent": ABSENT}
    targets = np.where(states == UNKNOWN, np.int8(meaning[uncertain]), states)
    targets[blanks] = meaning[blank]
    said = [f"−1 = {uncertain}"] * has_minus + [f"blank = {blank}"] * has_blank
    return targets, ", ".join(said)


def _named(table, options, name, where):
    """The column that an option names; None where it is not given."""
    wanted = getattr(options, name)
    if not wanted:
        return None
    found = column_of(table, [wanted])
    if found is None:
        raise UserError(f"{where}: has no column {wanted!r} (`{name}`); it has {shown(table.column_names)}")
    return found


def _chosen_labels(table, options, where):
    names = [name.strip() for name in options.label_columns.split(",") if name.strip()]
    if column_of(table, [options.label_columns.strip()]):  # a comma may be in its name
        names = [options.label_columns.strip()]
    found = [column_of(table, [name]) for name in names]
    if None in found:
        raise UserError(
            f"{where}: has no column {names[found.index(None)]!r} (`label_columns`); it has {shown(table.column_names)}"
        )
    return tuple(dict.fromkeys(found))


def _image_column(table, where):
    """The column that names photos: by its values, and by its name where values do not tell."""
    texts = [name for name in table.column_names if name and pyarrow.types.is_string(table.column(name).type)]
    with_photos = [name for name in texts if _name_photos(table.column(name))]
    known = [name for name in table.column_names if name.casefold() in IMAGE_COLUMNS]
    both = [name for name in with_photos if name in known]
    if len(both) > 1 or (not both and len(with_photos) > 1):
        several = both or with_photos
        raise UserError(
            f"{where}: columns {' and '.join(map(repr, several))} both name photos; say which with `image_column`"
        )
    if both or with_photos:
        return (both or with_photos)[0]
    found = column_of(table, IMAGE_COLUMNS)
    if found is None:
        raise UserError(
            f"{where}: its first line must name the columns, such as image,labels, and none of "
            f"{shown(table.column_names)} names photos; say which with `image_column`"
        )
    return found


def _name_photos(column):
    values = [value for value in column.slice(0, 1000).to_pylist() if value]
    return 2 * sum(value.strip().lower().endswith(PHOTO_SUFFIXES) for value in values) > len(values)


def _split_column(table):
    found = column_of(table, ("split", "split_name"))
    if found:
        return found
    for name in (*SPLIT_COLUMNS, *VALIDATION_COLUMNS):
        found = column_of(table, [name])
        if found is None or not can_be_text(table.column(found).type):
            continue
        values = {word_of(value) for value in table.column(found).unique().to_pylist()} - {""}
        allowed = {"0", "1", "true", "false"} if name in VALIDATION_COLUMNS else USUAL_NAMES | {UNASSIGNED}
        if values and values <= allowed:
            return found
    return None


def _refuse_two_forms(table, listed, states, where):
    """Refuses a table with lists of labels, and beside them a column for some of those labels."""
    fields = text_column(table.slice(0, 1000), listed) if pyarrow.types.is_string(table.column(listed).type) else []
    named = {part.casefold() for field in fields for part in labels_in_list(field) or [field]}
    both = [name for name in states if any(name.casefold() in field for field in named)]
    if len(both) > 1:
        raise UserError(
            f"{where}: has labels in {listed!r}, and columns for {shown(both)}; say which with "
            f"`label_columns`={listed} or `label_columns`={','.join(both[:3])}…"
        )


def _sample(table, name):
    return shown(repr(str(value)[:20]) for value in table.column(name).unique().to_pylist()[:5])


def word_of(value: Any) -> str:
    """A field as `WORDS` has it: numbers without a fraction of zero, words in lower case."""
    if value is None or value != value:
        return ""
    text = str(value).strip().casefold()
    return text.removesuffix(".0") if text.removesuffix(".0") in ("1", "0", "-1") else text
