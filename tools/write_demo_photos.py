"""Writes some photos of the demo set's test split as files: `python tools/write_demo_photos.py FOLDER [COUNT]`."""

import os
import sys

from msrn_tf.data.demo import draw_example

if __name__ == "__main__":
    folder, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8
    os.makedirs(folder, exist_ok=True)
    for number in range(count):
        example = draw_example("test", number)
        with open(os.path.join(folder, f"{example.image_id}.jpg"), "wb") as file:
            file.write(example.image_bytes)
    print(f"{count} photos in {folder}")
