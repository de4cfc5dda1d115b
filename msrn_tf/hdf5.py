"""Files of weights in HDF5, Keras' `.weights.h5` and `.h5`: what they would unpack to, known from their headers."""

from typing import BinaryIO

import h5py

from msrn_tf.arrays import check_unpacked_size


def count_numbers(file: str | BinaryIO, packed: int) -> int:
    """How many numbers the data sets of a file hold.

    Args:
        file: path or binary file.
        packed: its bytes.

    Raises:
        ValueError: it would unpack to far more, or parts of it lie in other files.
        OSError: it is no HDF5 file, or not whole.
    """
    numbers, unpacked, seen = 0, 0, set()
    with h5py.File(file, "r") as opened:
        groups = [opened]
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{name} lies in another place than the file")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    if item.external or item.is_virtual:
                        raise ValueError(f"{name} lies in another file")
                    numbers += item.size or 0
                    unpacked += (item.size or 0) * item.dtype.itemsize
        check_unpacked_size(unpacked, packed)
    return numbers
