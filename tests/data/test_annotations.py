"""COCO, VQAv2, Label Studio, YOLO, Pascal VOC and CVAT are read right, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rebus.data.readers import read_table
from rebus.errors import DataError
from tiny_tables import checked, write_images

NAMES = [f"{i}.png" for i in range(12)]
BOX = [0.25, 0.5, 0.75, 1.0]  # of an image of 32 x 32: x 8, y 16, 16 wide and high


def coco(names: list[str], marks: str = "boxes", **more: Any) -> dict[str, Any]:
    images = [{"id": 7 * i, "file_name": name, "width": 32, "height": 32} for i, name in enumerate(names)]
    mark = {"boxes": {"category_id": 3, "bbox": [8, 16, 16, 16]}, "captions": {"caption": "a grey thing"}}.get(
        marks, {}
    )
    annotations = [{"id": i, "image_id": 7 * i, **mark, **more} for i in range(len(names))]
    return {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("place", ["instances.json", "annotations/instances_train2017.json"])
@pytest.mark.parametrize("images", ["", "images", "train2017"])
def test_coco_boxes_are_fractions_of_their_images(tmp_path: Path, place: str, images: str) -> None:
    write_images(tmp_path / images, *NAMES)
    path = write_json(tmp_path / place, coco(NAMES))
    table = read_table(path)
    assert table.column("boxes")[3] == [{"label": "cat", "box": BOX}]
    assert table.column("image")[3].endswith("3.png")
    report = checked(path).report
    assert report.exit_code == 0
    assert report.tasks == {"patch_classify": {"image": "image", "boxes": "boxes"}}


def test_coco_captions_are_a_list_an_image(tmp_path: Path) -> None:
    write_images(tmp_path, *NAMES)
    content = coco(NAMES, "captions")
    content["annotations"] += [
        {"id": 99, "image_id": 0, "caption": "once more"},
        {"id": 100, "image_id": 7, "caption": ""},
    ]
    content["images"].append({"id": 1000, "file_name": "0.png"})
    path = write_json(tmp_path / "captions.json", content)
    found = checked(path)
    assert found.table.column("caption")[:2] == [["a grey thing", "once more"], ["a grey thing"]]
    assert found.report.tasks == {"caption": {"image": "image", "caption": "caption"}}
    assert [line.split(" (")[0] for line in found.report.unused.lines()] == ["1 images without a caption"]


def test_coco_without_its_images_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images that this COCO file names, e.g. '0.png'"):
        read_table(write_json(tmp_path / "coco" / "a.json", coco(NAMES)))


def test_what_coco_says_beside_boxes_is_counted(tmp_path: Path) -> None:
    write_images(tmp_path, *NAMES)
    content = coco(NAMES, segmentation=[[1, 2, 3]])
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["bbox"] = [40, 40, 8, 8]
    content["annotations"][2]["image_id"] = 5
    table = read_table(write_json(tmp_path / "a.json", content))
    assert [line.split(" (")[0] for line in table.unused.lines()] == [
        "1 annotations of images that the file does not list",
        "1 boxes around crowds",
        "1 boxes without an area inside the image",
        "12 annotations with 'segmentation', of which only the box is used",
    ]
    assert table.column("boxes")[:3] == [[], [], []]
    for broken in ("keypoints", "none"):
        with pytest.raises(DataError, match="'caption' or 'bbox'"):
            read_table(
                write_json(tmp_path / "b.json", coco(NAMES[: 6 if broken == "keypoints" else 0] or NAMES, broken))
            )


def test_a_category_without_a_name_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, *NAMES)
    with pytest.raises(DataError, match="category_id 9"):
        read_table(write_json(tmp_path / "a.json", coco(NAMES, category_id=9)))


def test_coco_folders_of_splits_keep_equal_names_apart(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_images(tmp_path / split, *NAMES)
        write_json(tmp_path / split / "_annotations.coco.json", coco(NAMES))
    table = read_table(tmp_path)
    assert table.column("split") == ["train"] * 12 + ["valid"] * 12
    assert table.column("image")[0].split("/")[0] == "train"
    assert table.column("image")[12].split("/")[0] == "valid"
    write_json(tmp_path / "train" / "more.json", coco(NAMES))
    with pytest.raises(DataError, match="one annotation file, or one a split"):
        read_table(tmp_path)


def vqa(folder: Path, image: str) -> None:
    questions = [{"image_id": 100 + i, "question_id": i, "question": f"what is {i}?"} for i in range(12)]
    said = [{"answer": word, "answer_confidence": "yes", "answer_id": i} for i, word in enumerate(("a", "red", "red"))]
    answers = [
        {
            "question_id": i,
            "image_id": 100 + i,
            "answers": said,
            "multiple_choice_answer": "red",
            "question_type": "what",
        }
        for i in range(10)
    ]
    write_images(folder, *(image.format(100 + i) for i in range(12)))
    write_json(folder / "v2_questions.json", {"data_subtype": "val2014", "questions": questions})
    write_json(folder / "v2_annotations.json", {"annotations": answers})


@pytest.mark.parametrize("image", ["{}.jpg", "val2014/COCO_val2014_{:012d}.jpg"])
@pytest.mark.parametrize("opened", ["", "v2_questions.json", "v2_annotations.json"])
def test_vqa_questions_find_their_answers_and_images(tmp_path: Path, image: str, opened: str) -> None:
    vqa(tmp_path, image)
    found = checked(tmp_path / opened)
    assert found.report.exit_code == 0
    assert list(found.report.tasks) == ["answer"]
    assert found.table[3] == {
        "image": image.format(103),
        "question": "what is 3?",
        "answer": ["red", "red", "a"],
        "question_type": "what",
    }
    assert found.report.unused.lines()[0].startswith("2 questions without an answer")


def test_vqa_questions_alone_are_refused(tmp_path: Path) -> None:
    vqa(tmp_path, "{}.jpg")
    (tmp_path / "v2_annotations.json").unlink()
    with pytest.raises(DataError, match="questions without their answers"):
        read_table(tmp_path / "v2_questions.json")


def studio(data: dict[str, Any], *results: tuple[str, dict[str, Any]], count: int = 12) -> list[dict[str, Any]]:
    made = [{"type": kind, "from_name": "x", "to_name": "y", "value": value} for kind, value in results]
    other = [{"id": 1, "was_cancelled": True, "result": []}]
    return [
        {"id": i, "data": json.loads(json.dumps(data).replace("#", str(i))), "annotations": [*other, {"result": made}]}
        for i in range(count)
    ]


STUDIO = {
    "choices": (studio({"image": "/data/upload/1/3fa2-#.png"}, ("choices", {"choices": ["cat"]})), "label", "cat"),
    "several": (studio({"image": "/data/local-files/?d=images%2F#.png"}, ("choices", {"choices": ["a", "b"]})),
                "labels", ["a", "b"]),
    "boxes": (studio({"image": "#.png"}, ("rectanglelabels", {"x": 25, "y": 50, "width": 50, "height": 50,
                                                               "rotation": 0, "rectanglelabels": ["cat"]})),
              "boxes", [{"label": "cat", "box": BOX}]),
    "captions": (studio({"image": "#.png"}, ("textarea", {"text": ["a cat"]})), "caption", "a cat"),
    "spans": (studio({"text": "Rome is old #"}, ("labels", {"start": 0, "end": 4, "text": "Rome", "labels": ["LOC"]})),
              "entities", [{"start": 0, "end": 4, "label": "LOC"}]),
    "texts": (studio({"text": "good film #"}, ("choices", {"choices": ["pos"]})), "label", "pos"),
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIO)
def test_label_studio_exports(tmp_path: Path, name: str) -> None:
    tasks, column, value = STUDIO[name]
    write_images(tmp_path / "images", *NAMES)
    table = read_table(write_json(tmp_path / "export.json", tasks))
    assert table.column(column) == [value] * 12
    if "image" in tasks[0]["data"]:
        assert table.column("image")[5] == "images/5.png"
    assert table.unused.lines()[0].startswith("12 annotations that were cancelled")


def test_label_studio_spans_and_unlabelled_tasks(tmp_path: Path) -> None:
    tasks, *_ = STUDIO["spans"]
    tasks = [*tasks, {"id": 99, "data": {"text": "not yet"}, "annotations": [], "predictions": [{"result": []}]}]
    report = checked(write_json(tmp_path / "export.json", tasks)).report
    assert report.exit_code == 0
    assert report.tasks == {"ner": {"tokens": "text", "tags": "entities"}}
    assert len(report.unlabelled) == 1


def test_label_studio_results_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, *NAMES)
    tasks = studio({"image": "#.png"}, ("brushlabels", {"rle": [1]}))
    with pytest.raises(DataError, match="brushlabels"):
        read_table(write_json(tmp_path / "export.json", tasks))
    missing = studio({"image": "gone/x#.png"}, ("choices", {"choices": ["cat"]}))
    with pytest.raises(DataError, match="images that this Label Studio export names"):
        read_table(write_json(tmp_path / "sub" / "export.json", missing))


def yolo(
    folder: Path, images: str, labels: str, names: str | None = "data.yaml", line: str = "1 0.5 0.75 0.5 0.5"
) -> None:
    write_images(folder / images, *NAMES)
    (folder / labels).mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / labels / name).with_suffix(".txt").write_text(line + "\n")
    if names == "data.yaml":
        (folder / names).write_text("train: x\nnc: 2\nnames:\n  0: dog\n  1: cat\n")
    elif names is not None:
        (folder / names).write_text("dog\ncat\n")


@pytest.mark.parametrize(
    ("places", "names", "splits"),
    [
        ([("", "")], "classes.txt", None),
        ([("images", "labels")], "data.yaml", None),
        ([("images/train", "labels/train"), ("images/val", "labels/val")], "data.yaml", {"train", "valid"}),
        ([("train/images", "train/labels"), ("test/images", "test/labels")], "data.yaml", {"train", "test"}),
    ],
)
def test_yolo_labels_are_boxes(tmp_path: Path, places: list[tuple[str, str]], names: str, splits: Any) -> None:
    for images, labels in places:
        yolo(tmp_path, images, labels, names)
    table = read_table(tmp_path)
    assert table.column("boxes") == [[{"label": "cat", "box": BOX}]] * 12 * len(places)
    assert (set(table.column("split")) if "split" in table.columns else None) == splits
    assert not table.unused
    assert checked(tmp_path).report.tasks == {"patch_classify": {"image": "image", "boxes": "boxes"}}


def test_yolo_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    yolo(tmp_path, "", "", None)
    with pytest.raises(DataError, match="names of the classes of YOLO"):
        read_table(tmp_path)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    for line, told in (("5 0.5 0.5 0.1 0.1", "class from 0 to 1"), ("1 16 16 8 8", "fractions of the image")):
        (tmp_path / "3.txt").write_text(line)
        with pytest.raises(DataError, match=told):
            read_table(tmp_path)


def test_yolo_outlines_empty_files_and_images_without_a_file(tmp_path: Path) -> None:
    yolo(tmp_path, "", "", "classes.txt", "0 0.25 0.5 0.75 0.5 0.75 1.0 0.25 1.0")
    (tmp_path / "4.txt").write_text("")
    (tmp_path / "5.txt").unlink()
    table = read_table(tmp_path)
    assert table.column("boxes")[:1] == [[{"label": "dog", "box": BOX}]]
    assert table.column("boxes").count([]) == 2
    assert [line.split(" (")[0] for line in table.unused.lines()] == [
        "10 outlines, of which only the box around them is used",
        "1 images without a label file, taken to show nothing",
    ]


def test_yolo_keypoints_are_no_outlines(tmp_path: Path) -> None:
    yolo(tmp_path, "", "", "classes.txt", "0 0.5 0.75 0.5 0.5 0.3 0.3 2 0.4 0.4 2 0.4 0.5 1")
    with pytest.raises(DataError, match="kpt_shape"):
        read_table(tmp_path)
    (tmp_path / "data.yaml").write_text("kpt_shape: [3, 3]\nnames: [dog, cat]\n")
    table = read_table(tmp_path)
    assert table.column("boxes") == [[{"label": "dog", "box": BOX}]] * 12
    assert table.unused.lines()[0].startswith("12 boxes with keypoints, of which only the box is used")


def test_rows_of_numbers_beside_images_are_no_captions(tmp_path: Path) -> None:
    write_images(tmp_path, *NAMES)
    for name in NAMES:
        (tmp_path / name).with_suffix(".txt").write_text("Car 0.00 0 -1.57 599.41 156.40 629.75 189.25")
    with pytest.raises(DataError, match="rows of numbers"):
        read_table(tmp_path)
    for i, name in enumerate(NAMES):
        (tmp_path / name).with_suffix(".txt").write_text(f"{i * 1.5}")
    assert list(checked(tmp_path).report.tasks) == ["regress"]


def voc(name: str) -> str:
    thing = (
        "<object><name>cat</name><bndbox><xmin>8</xmin><ymin>16</ymin><xmax>24</xmax><ymax>32</ymax></bndbox></object>"
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>32</width><height>32</height></size>{thing}</annotation>"
    )


def test_pascal_voc_with_its_lists_of_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "JPEGImages", *NAMES)
    (tmp_path / "Annotations").mkdir()
    for name in NAMES:
        (tmp_path / "Annotations" / name).with_suffix(".xml").write_text(voc(name))
    assert read_table(tmp_path).column("boxes") == [[{"label": "cat", "box": BOX}]] * 12
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("\n".join(str(i) for i in range(8)))
    (sets / "val.txt").write_text("8\n9\n")
    table = read_table(tmp_path)
    assert sorted(table.column("split")) == ["train"] * 8 + ["valid"] * 2
    assert table.unused.lines()[0].startswith("2 images that no list in ImageSets names")
    (tmp_path / "Annotations" / "0.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    with pytest.raises(DataError, match="without declarations"):
        read_table(tmp_path)


def test_cvat_for_images(tmp_path: Path) -> None:
    write_images(tmp_path / "images", *NAMES)
    shapes = '<box label="cat" xtl="8" ytl="16" xbr="24" ybr="32"/><polygon label="cat" points="1,2;3,4"/>'
    images = [f'<image id="{i}" name="{name}" width="32" height="32">{shapes}</image>' for i, name in enumerate(NAMES)]
    (tmp_path / "annotations.xml").write_text(f"<annotations><version>1.1</version>{''.join(images)}</annotations>")
    table = read_table(tmp_path)
    assert table.column("boxes") == [[{"label": "cat", "box": BOX}]] * 12
    assert table.unused.lines()[0].startswith("12 CVAT shapes of the type 'polygon'")
    (tmp_path / "annotations.xml").write_text("<annotations><track/></annotations>")
    with pytest.raises(DataError, match="CVAT for video"):
        read_table(tmp_path)


def test_labelme_is_refused_by_name(tmp_path: Path) -> None:
    write_images(tmp_path, *NAMES)
    write_json(tmp_path / "0.json", {"version": "5", "shapes": [], "imagePath": "0.png"})
    with pytest.raises(DataError, match="LabelMe"):
        read_table(tmp_path)
