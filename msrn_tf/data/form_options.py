"""What a person can say about the form of a label file, where it is not to be found out from the file itself."""

import dataclasses

UNCERTAIN = ("auto", "unknown", "present", "absent")
BLANKS = ("auto", "unknown", "absent")


@dataclasses.dataclass(frozen=True)
class FormOptions:
    """Empty, or `auto`: found out from the file.

    Attributes:
        table: the file, a path or a name below the data set's folder; several, one a split, separated by commas.
        table_encoding: its encoding, as Python calls it.
        image_column: the column that names photos.
        label_columns: names of columns, separated by commas: one that holds lists of labels, or a column a label.
        label_separator: what separates labels in a list: a mark, or `blank`; `none`: each field is one label.
        split_column, group_column: the columns that name splits, and what must not be divided between splits.
        uncertain: what −1 and "uncertain" stand for in a column a label, one of `UNCERTAIN`.
        blanks: what an empty field stands for in a column a label, one of `BLANKS`.
    """

    table: str = ""
    table_encoding: str = ""
    image_column: str = ""
    label_columns: str = ""
    label_separator: str = ""
    split_column: str = ""
    group_column: str = ""
    uncertain: str = "auto"
    blanks: str = "auto"

    def given(self) -> dict[str, str]:
        """Those that are not found out: name → value."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


TABLE_OPTIONS = tuple(field.name for field in dataclasses.fields(FormOptions))
