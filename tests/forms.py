"""The same photos and labels in the forms of many tools, each written as the tool writes it."""

import csv
import io
import json
import tarfile
import xml.sax.saxutils

import pyarrow
import pyarrow.parquet
import yaml
from PIL import Image

LABELS = ("cat", "dog", "fish", "red hat")
SPLITS = ("train", "val", "test")


def forty_photos():
    """`(name, labels, split)` of 40 photos; some show nothing."""
    return [
        (
            f"p{n:02d}.jpg",
            [label for bit, label in enumerate(LABELS) if (n * 7 + 3) % 16 >> bit & 1],
            "train" if n < 28 else "val" if n < 34 else "test",
        )
        for n in range(40)
    ]


def encoded(name):
    """A small JPEG, another one for each name."""
    number = int(name[1:3])
    stream = io.BytesIO()
    Image.new("RGB", (24, 20), (number * 6, 255 - number * 5, number * 3 % 256)).save(stream, "JPEG")
    return stream.getvalue()


def write_photos(folder, photos, below=lambda split: "images"):
    for name, _, split in photos:
        path = folder / below(split) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(name))


def write_csv(path, rows, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, **options).writerows(rows)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def by_split(photos):
    return {split: [photo for photo in photos if photo[2] == split] for split in SPLITS}


def table(folder, photos):
    write_photos(folder, photos)
    rows = [(f"images/{name}", "|".join(labels), split) for name, labels, split in photos]
    write_csv(folder / "list.csv", [("image", "labels", "split"), *rows])


def table_of_states(folder, photos):
    write_photos(folder, photos)
    rows = [(f"images/{n}", *(int(label in labels) for label in LABELS), split) for n, labels, split in photos]
    write_csv(folder / "list.TSV", [("filename", *LABELS, "split"), *rows], delimiter="\t")


def table_without_suffixes(folder, photos):
    """As Kaggle's tables of tags; here with tags that have no blanks of their own, and one file a split."""
    write_photos(folder, photos, lambda split: f"{split}-jpg")
    for split, its in by_split(photos).items():
        rows = [(n.removesuffix(".jpg"), " ".join(label.replace(" ", "_") for label in ls)) for n, ls, _ in its]
        write_csv(folder / f"{split}_classes.csv", [("image_name", "tags"), *rows])


def roboflow_csv(folder, photos):
    for split, its in by_split(photos).items():
        write_photos(folder, its, lambda split: split)
        rows = [(n, *(int(label in labels) for label in LABELS)) for n, labels, _ in its]
        write_csv(folder / split / "_classes.csv", [("filename", *(f" {label}" for label in LABELS)), *rows])


def chexpert(folder, photos):
    write_photos(folder, photos, lambda split: f"{split}/patient")
    for split, its in by_split(photos).items():
        rows = [
            (
                f"CheXpert-v1.0-small/{split}/patient/{n}",
                "Male",
                60,
                *("1.0" if label in ls else "0.0" for label in LABELS),
            )
            for n, ls, _ in its
        ]
        write_csv(folder / f"{split}.csv", [("Path", "Sex", "Age", *LABELS), *rows])


def json_lines(folder, photos):
    write_photos(folder, photos)
    write_lines(folder / "photos.jsonl", [{"image": f"images/{n}", "labels": ls, "split": s} for n, ls, s in photos])


def parquet(folder, photos):
    write_photos(folder, photos)
    columns = {"path": [f"images/{n}" for n, _, _ in photos], "split": [s for *_, s in photos]}
    columns |= {label: [label in ls for _, ls, _ in photos] for label in LABELS}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "photos.parquet")


def huggingface(folder, photos):
    for split, its in by_split(photos).items():
        write_photos(folder, its, lambda split: split)
        write_lines(folder / split / "metadata.jsonl", [{"file_name": n, "labels": labels} for n, labels, _ in its])


def hub_parquet(folder, photos):
    """As `datasets` pushes a data set to Hugging Face's hub: photos in the files, numbered classes, shards."""
    (folder / "data").mkdir()
    labels = {"feature": {"names": list(LABELS), "_type": "ClassLabel"}, "_type": "List"}
    features = {"image": {"_type": "Image"}, "labels": labels}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for split, its in by_split(photos).items():
        for part in range(2):
            rows = its[part::2]
            columns = {
                "image": [{"bytes": encoded(name), "path": name} for name, _, _ in rows],
                "labels": [[LABELS.index(label) for label in labels] for _, labels, _ in rows],
            }
            table = pyarrow.table(columns).replace_schema_metadata(metadata)
            pyarrow.parquet.write_table(table, folder / "data" / f"{split}-{part:05d}-of-00002.parquet")


def coco_json(folder, photos):
    write_photos(folder, photos, lambda split: split)
    for split, its in by_split(photos).items():
        content = {
            "images": [{"id": n, "file_name": name} for n, (name, _, _) in enumerate(its)],
            "categories": [{"id": n, "name": label} for n, label in enumerate(LABELS)],
            "annotations": [
                {"image_id": n, "category_id": LABELS.index(label), "bbox": [0, 0, 4, 4]}
                for n, (_, labels, _) in enumerate(its)
                for label in labels
            ],
        }
        write_json(folder / "annotations" / f"instances_{split}.json", content)


def voc(folder, photos):
    write_photos(folder, photos, lambda split: "JPEGImages")
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name, labels, _ in photos:
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
            for label in labels
        )
        text = f"<annotation verified='yes'><folder>x</folder><filename>{name}</filename>{objects}</annotation>"
        (folder / "Annotations" / f"{name[:-4]}.xml").write_text(text)
    for split, its in by_split(photos).items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{n[:-4]}\n" for n, *_ in its))


def yolo(folder, photos):
    write_photos(folder, photos, lambda split: f"{split}/images")
    for name, labels, split in photos:
        path = folder / split / "labels" / f"{name[:-4]}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if labels:
            path.write_text("".join(f"{LABELS.index(label)} 0.5 0.5 0.25 0.25\n" for label in labels * 2))
    description = {split: f"../{split}/images" for split in SPLITS} | {"nc": len(LABELS), "names": list(LABELS)}
    (folder / "data.yaml").write_text(yaml.safe_dump(description))


def label_studio(folder, photos):
    write_photos(folder, photos)

    def task(number, name, labels):
        result = [{"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": labels}}]
        done = {"id": number, "result": result if labels else [], "was_cancelled": False, "completed_by": 1}
        return {"id": number, "annotations": [done], "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"}}

    for split, its in by_split(photos).items():
        write_json(folder / f"{split}.json", [task(n, name, labels) for n, (name, labels, _) in enumerate(its)])


def label_studio_csv(folder, photos):
    write_photos(folder, photos)
    for split, its in by_split(photos).items():
        rows = [
            (
                n,
                1,
                labels[0] if len(labels) == 1 else json.dumps({"choices": labels}),
                f"/data/local-files/?d=images/{name}",
                3.5,
            )
            for n, (name, labels, _) in enumerate(its)
        ]
        write_csv(folder / f"{split}.csv", [("annotation_id", "annotator", "choice", "image", "lead_time"), *rows])


def cvat(folder, photos):
    write_photos(folder, photos)
    names = "".join(f"<label><name>{label}</name><type>tag</type></label>" for label in LABELS)
    images = "".join(
        f'<image id="{n}" name="{name}" subset="{split.capitalize()}" width="24" height="20">'
        + "".join(f"<tag label={xml.sax.saxutils.quoteattr(label)} source='manual'></tag>" for label in labels)
        + "</image>"
        for n, (name, labels, split) in enumerate(photos)
    )
    start = f"<annotations><version>1.1</version><meta><task><labels>{names}</labels></task></meta>"
    text = f"<?xml version='1.0' encoding='utf-8'?>{start}{images}</annotations>"
    (folder / "annotations.xml").write_text(text)


def fiftyone(folder, photos):
    write_photos(folder, photos, lambda split: f"{split}/data")
    for split, its in by_split(photos).items():
        labels = {name[:-4]: [LABELS.index(label) for label in labels] for name, labels, _ in its}
        write_json(folder / split / "labels.json", {"classes": list(LABELS), "labels": labels})


def mmpretrain(folder, photos):
    write_photos(folder, photos, lambda split: split)
    for split, its in by_split(photos).items():
        entries = [{"img_path": name, "gt_label": [LABELS.index(label) for label in labels]} for name, labels, _ in its]
        write_json(folder / "annotation" / f"{split}.json", {"metainfo": {"classes": LABELS}, "data_list": entries})


def paddleclas(folder, photos):
    write_photos(folder, photos)
    (folder / "label_list.txt").write_text("".join(f"{n} {label}\n" for n, label in enumerate(LABELS)))
    for split, its in by_split(photos).items():
        lines = (f"{n}\t{','.join(str(int(label in labels)) for label in LABELS)}\n" for n, labels, _ in its)
        (folder / f"multilabel_{split}_list.txt").write_text("".join(lines))


USES = {"train": "training", "val": "validation", "test": "test"}


def vertex_csv(folder, photos):
    write_photos(folder, photos)
    rows = [(USES[split].upper(), f"gs://bucket/set/images/{name}", *labels) for name, labels, split in photos]
    write_csv(folder / "import.csv", rows)


def vertex_jsonl(folder, photos):
    write_photos(folder, photos)
    entries = [
        {
            "imageGcsUri": f"gs://bucket/set/images/{name}",
            "classificationAnnotations": [{"displayName": label} for label in labels],
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": USES[split]},
        }
        for name, labels, split in photos
    ]
    write_lines(folder / "import.jsonl", entries)


def azure(folder, photos):
    write_photos(folder, photos)
    for split, its in by_split(photos).items():
        place = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/d/paths/images"
        entries = [
            {"image_url": f"{place}/{n}", "image_details": {"format": "jpg"}, "label": labels} for n, labels, _ in its
        ]
        write_lines(folder / f"{split}_annotations.jsonl", entries)


def rekognition(folder, photos):
    write_photos(folder, photos)
    kind = {"type": "groundtruth/image-classification-multilabel", "human-annotated": "yes", "job-name": "job"}
    for split, its in by_split(photos).items():
        entries = [
            {
                "source-ref": f"s3://bucket/images/{name}",
                "shown": [LABELS.index(label) for label in labels],
                "shown-metadata": {"class-map": {str(LABELS.index(label)): label for label in labels}, **kind},
            }
            for name, labels, _ in its
        ]
        write_lines(folder / f"{split}.manifest", entries)


def webdataset(folder, photos):
    for split, its in by_split(photos).items():
        with tarfile.open(folder / f"{split}-0000.tar", "w") as archive:
            for name, labels, _ in its:
                for member, content in ((name, encoded(name)), (f"{name[:-4]}.json", json.dumps(labels).encode())):
                    item = tarfile.TarInfo(member)
                    item.size = len(content)
                    archive.addfile(item, io.BytesIO(content))


def open_images(folder, photos):
    write_photos(folder, photos, lambda split: split)
    codes = {label: f"/m/0{n}" for n, label in enumerate(LABELS)}
    write_csv(folder / "class-descriptions.csv", [(code, label) for label, code in codes.items()])
    for split, its in by_split(photos).items():
        rows = [(n[:-4], "verification", codes[label], int(label in ls)) for n, ls, _ in its for label in LABELS]
        name = {"val": "validation"}.get(split, split)
        header = ("ImageID", "Source", "LabelName", "Confidence")
        write_csv(folder / f"{name}-annotations-human-imagelabels.csv", [header, *rows])


def celeba(folder, photos):
    write_photos(folder, photos, lambda split: "img_align_celeba")
    names = " ".join(label.replace(" ", "_") for label in LABELS)
    rows = "".join(f"{n} {'  '.join(f'{2 * (label in ls) - 1:2d}' for label in LABELS)}\n" for n, ls, _ in photos)
    (folder / "list_attr_celeba.txt").write_text(f"{len(photos)}\n{names}\n{rows}")
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {SPLITS.index(split)}\n" for n, _, split in photos))


FORMS = {
    "table": (table, "table", "list.csv"),
    "table of states": (table_of_states, "table", "list.TSV"),
    "table without suffixes": (table_without_suffixes, "table", "train_classes.csv"),
    "Roboflow's CSV": (roboflow_csv, "table", "train/_classes.csv"),
    "CheXpert": (chexpert, "table", "train.csv"),
    "JSON lines": (json_lines, "table", "photos.jsonl"),
    "Parquet": (parquet, "table", "photos.parquet"),
    "Hugging Face": (huggingface, "huggingface", "train/metadata.jsonl"),
    "Hugging Face's Parquet": (hub_parquet, "table", "data/train-00000-of-00002.parquet"),
    "COCO": (coco_json, "coco_json", "annotations/instances_train.json"),
    "VOC": (voc, "voc", "Annotations/p00.xml"),
    "YOLO": (yolo, "yolo", "data.yaml"),
    "YOLO's boxes": (yolo, "yolo", "train/labels/p00.txt"),
    "Label Studio": (label_studio, "label_studio", "train.json"),
    "Label Studio's CSV": (label_studio_csv, "label_studio", "train.csv"),
    "CVAT": (cvat, "cvat", "annotations.xml"),
    "FiftyOne": (fiftyone, "fiftyone", "train/labels.json"),
    "mmpretrain": (mmpretrain, "mmpretrain", "annotation/train.json"),
    "PaddleClas": (paddleclas, "paddleclas", "multilabel_train_list.txt"),
    "Vertex's CSV": (vertex_csv, "vertex", "import.csv"),
    "Vertex's JSON lines": (vertex_jsonl, "vertex", "import.jsonl"),
    "Azure": (azure, "azure", "train_annotations.jsonl"),
    "Rekognition": (rekognition, "rekognition", "train.manifest"),
    "WebDataset": (webdataset, "webdataset", "train-0000.tar"),
    "Open Images": (open_images, "open_images", "train-annotations-human-imagelabels.csv"),
    "CelebA": (celeba, "celeba", "list_attr_celeba.txt"),
}
"""Name → (writer, `--dataset`, the file of labels that mutations change)."""
