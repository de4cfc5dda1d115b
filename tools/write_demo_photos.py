"""Writes photos of the demo set as files: `python tools/write_demo_photos.py FOLDER [COUNT] [--split=SPLIT] [--list]`.

`--list` writes list.csv beside them, a table of photos and labels as people keep them.
"""

import argparse
import csv
import os

from msrn_tf.data.demo import DEMO_LABELS, SPLIT_SIZES, draw_example

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("count", type=int, nargs="?", default=8)
    parser.add_argument("--split", choices=SPLIT_SIZES, default="test")
    parser.add_argument("--list", action="store_true", help="write list.csv, too")
    arguments = parser.parse_args()

    os.makedirs(arguments.folder, exist_ok=True)
    rows = [["image", "labels"]]
    for number in range(arguments.count):
        example = draw_example(arguments.split, number)
        name = f"{example.image_id}.jpg"
        with open(os.path.join(arguments.folder, name), "wb") as photo:
            photo.write(example.image_bytes)
        rows.append([name, "|".join(label for label, state in zip(DEMO_LABELS, example.target, strict=True) if state)])
    if arguments.list:
        with open(os.path.join(arguments.folder, "list.csv"), "w", encoding="utf-8", newline="") as table:
            csv.writer(table, lineterminator="\n").writerows(rows)
    print(f"{arguments.count} photos in {arguments.folder}")
