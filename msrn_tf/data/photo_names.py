"""Names of photos in lists, in one form: so that a photo named in two ways is seen to be one."""

import collections
import posixpath
import unicodedata
from collections.abc import Iterable, Mapping

from msrn_tf.data.label_choice import shown
from msrn_tf.errors import UserError
from msrn_tf.terminal import say


def photo_name(text: str) -> str:
    """A path as lists are compared: folders separated by `/`, no `./`, letters composed."""
    return posixpath.normpath(unicodedata.normalize("NFC", text).replace("\\", "/"))


def refuse_repeats(names: Iterable[str], where: str) -> None:
    """Refuses a list that names a photo twice. Raises `UserError` that begins with `where`."""
    name, count = collections.Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(f"{where}: names {name} {'twice' if count == 2 else f'{count} times'}; give each photo one row")


def warn_of_shared(names_by_split: Mapping[str, Iterable[str]], where: str) -> None:
    """Says which splits' lists share photos."""
    splits_of = collections.defaultdict(list)
    for split, names in names_by_split.items():
        for name in set(names):
            splits_of[name].append(split)
    shared = collections.Counter(" and ".join(splits) for splits in splits_of.values() if len(splits) > 1)
    if shared:
        pairs = [f"{count} in {splits}" for splits, count in shared.most_common()]
        say(f"warning: {where}: photos are in more than one split: {shown(pairs)}", error=True)
