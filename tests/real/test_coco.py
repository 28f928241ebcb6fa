"""The reader of COCO annotations: what comes out of good folders, and one sentence about each bad one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import coco_makers as makers
import numpy as np
import pytest
import torch

from attar.errors import DataError, UsageError
from attar.real.load import load
from attar.real.objects import as_images, cut, objects_of


def test_a_folder_becomes_a_detection_set(tmp_path) -> None:
    real = load(makers.write(tmp_path / "pets", train=makers.plain(), test=makers.plain())).train
    assert (real.task, real.class_names, real.shape, len(real)) == ("detection", ("cat", "dog"), (3, 20, 30), 3)
    assert real.ids.tolist() == [0, 1, 2] and real.sizes == [] and not real.labelled
    first, second, third = real.table["objects"].to_pylist()
    assert [o["bbox"] for o in first] == [[1, 2, 10, 8], [5.5, 0, 4, 20]] and third == []
    assert [(o["id"], o["category"], o["area"], o["iscrowd"]) for o in first] == [
        (100, 0, 40, False),
        (101, 1, 40, False),
    ]
    assert json.loads(second[0]["annotation"]) == makers.plain()["annotations"][2]
    assert real.table["width"].to_pylist() == [30] * 3 and real.table["height"].to_pylist() == [20] * 3
    assert real.source["coco"]["licenses"] == makers.plain()["licenses"]


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_boxes_follow_their_pixels(tmp_path, resize) -> None:
    """A white box on black is where its annotation says, whatever the size."""
    from PIL import Image

    made = makers.page([(60, 90), (80, 40)], [(0, 0, [30, 10, 40, 20]), (1, 1, [10, 40, 20, 30])])
    root = makers.write(tmp_path / "p", train=made, test=makers.plain())
    for record, (x, y, w, h) in zip(made["images"], ([30, 10, 40, 20], [10, 40, 20, 30])):
        pixels = np.zeros((record["height"], record["width"], 3), np.uint8)
        pixels[y : y + h, x : x + w] = 255
        Image.fromarray(pixels).save(root / "images" / record["file_name"])
    real = load(root, size=(48, 48), resize=resize).train
    for i, (x, y, w, h) in enumerate(objects_of(real.table).box.tolist()):
        lit = (real.raw(torch.tensor([i]))[0, 0] > 127).nonzero()
        top, left = lit.min(0).values.tolist()
        bottom, right = (lit.max(0).values + 1).tolist()
        assert np.allclose([x, y, x + w, y + h], [left, top, right, bottom], atol=1.01)
    assert [o[0]["area"] for o in real.table["objects"].to_pylist()] == [400, 300]  # of the original


def test_images_of_several_sizes_get_a_working_size_and_keep_the_original_one(tmp_path) -> None:
    made = makers.page([(300, 600), (500, 200)], [(0, 0, [0, 0, 600, 300]), (1, 1, [0, 0, 200, 500])])
    splits = load(makers.write(tmp_path / "p", train=made, test=made))
    assert splits.train.shape == (3, 213, 256) and "looked at in 256x213 pixels" in splits.notes[0]
    boxes = objects_of(splits.train.table).box
    assert torch.allclose(boxes[0], torch.tensor([0, 42, 256, 128], dtype=torch.float64), atol=1)
    assert splits.train.table["width"].to_pylist() == [600, 200]
    assert splits.test.shape == splits.train.shape
    told = load(tmp_path / "p", size=64).notes
    assert told == ("images are padded where their shape differs, for a crop would cut boxes off",)


def test_the_same_ids_from_the_cache_and_another_order_of_categories_in_the_test_split(tmp_path) -> None:
    test = makers.plain()
    test["categories"].reverse()
    root = makers.write(tmp_path / "p", train=makers.plain(), test=test)
    first, again = load(root), load(root)
    assert first.train.fingerprint == again.train.fingerprint
    assert again.test.table["objects"][0].as_py()[0]["category"] == 0  # by name


@pytest.mark.parametrize(
    "layout",
    [
        ("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json", "val2017"),
        ("train/_annotations.coco.json", "train", "test/_annotations.coco.json", "test"),
        ("annotations.json", "images", "annotations/test.json", "images"),
        ("train.json", ".", "test.json", "."),
    ],
)
def test_common_layouts(tmp_path, layout) -> None:
    made = makers.write(tmp_path / "from", train=makers.plain(), test=makers.plain())
    root = tmp_path / "to"
    for split, note, folder in (("train", *layout[:2]), ("test", *layout[2:])):
        for place in ((root / note).parent, root / folder):
            place.mkdir(parents=True, exist_ok=True)
        (root / note).write_text((made / f"{split}.json").read_text())
        for file in (made / "images").glob(f"{split}-*"):
            (root / folder / file.name).write_bytes(file.read_bytes())
    splits = load(root)
    assert splits.train.task == splits.test.task == "detection" and len(splits.test) == 3


def test_one_file_is_a_source_with_a_held_out_part(tmp_path) -> None:
    made = makers.page([(20, 30)] * 10, [(i, i % 2, [1, 1, 5, 5]) for i in range(10)])
    splits = load(makers.write(tmp_path / "p", train=made) / "train.json")
    assert (len(splits.train), len(splits.test)) == (8, 2)


def test_class_folders_with_a_stray_json_are_class_folders_still(tmp_path) -> None:
    from real_makers import pictures, write_folder

    root = write_folder(tmp_path / "p", {"a": pictures(9), "b": pictures(9)})
    (root / "notes.json").write_text("{}")
    assert load(root).train.task == "image-classification"


def test_a_crowd_is_no_object_and_is_kept(tmp_path) -> None:
    made = makers.plain()
    made["annotations"][1] |= {"iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [20, 30]}}
    real = load(makers.write(tmp_path / "p", train=made, test=makers.plain())).train
    assert objects_of(real.table).category.tolist() == [0, 1] and len(real.table["objects"][0].as_py()) == 2
    assert as_images(real).sizes == [1, 1]


def test_objects_are_cut_out_exactly() -> None:
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    whole, part = cut(image, torch.tensor([[0.0, 0, 8, 8], [2, 3, 4, 4]]), 4)
    assert torch.equal(part, image[:, 3:7, 2:6])
    assert whole[0, 0, 0] == round(float(image[0, :2, :2].float().mean()))


def broken(change: str, at: Any) -> dict[str, Any]:
    """``plain`` with one fault."""
    page = copy.deepcopy(makers.plain())
    note, record = page["annotations"][0], page["images"][1]
    faults: dict[str, Any] = {
        "outside": lambda: note.update(bbox=[25, 2, 10, 8]),
        "negative": lambda: note.update(bbox=[-5, 2, 10, 8]),
        "no area": lambda: note.update(bbox=[1, 2, 0, 8]),
        "three numbers": lambda: note.update(bbox=[1, 2, 3]),
        "nan": lambda: note.update(bbox=[1, 2, float("nan"), 8]),
        "no box": lambda: note.pop("bbox"),
        "category": lambda: note.update(category_id=99),
        "image": lambda: note.update(image_id=99),
        "note twice": lambda: page["annotations"][1].update(id=100),
        "image twice": lambda: record.update(id=10),
        "category twice": lambda: page["categories"][1].update(id=3),
        "name twice": lambda: page["categories"][1].update(name="cat"),
        "no width": lambda: record.pop("width"),
        "text id": lambda: record.update(id="ten"),
        "escape": lambda: record.update(file_name="../secret.png"),
        "no lists": lambda: page.pop("annotations"),
        "no images": lambda: page.update(images=[], annotations=[]),
        "area": lambda: note.update(area="big"),
    }
    faults[change]()
    return page


@pytest.mark.parametrize(
    "change, says",
    [
        ("outside", r"annotation 100 \(image 10, .*0.png\) has the box .*outside of its image of 30x20"),
        ("negative", "outside of its image"),
        ("no area", "annotation 100 .* has no area; correct or delete it"),
        ("three numbers", "expected four numbers"),
        ("nan", "NaN is no JSON number"),
        ("no box", "has the box None"),
        ("category", "annotation 100 has the category 99, which is not among the 2 categories"),
        ("image", "annotation 100 names the image 99, which is not among the 3 images"),
        ("note twice", "two annotations with the id 100"),
        ("image twice", "two images with the id 10"),
        ("category twice", "two categories with the id 3"),
        ("name twice", "two categories called 'cat'"),
        ("no width", "image 1 has width None"),
        ("text id", "image 1 has id 'ten'; expected a whole number"),
        ("escape", "no file inside the image folder"),
        ("no lists", "lacks the list annotations"),
        ("no images", "has no images"),
        ("area", "has the area 'big'"),
    ],
)
def test_bad_annotations(tmp_path, change, says) -> None:
    root = makers.write(tmp_path / "p", train=makers.plain(), test=makers.plain())
    page = broken(change, None)
    for record in page["images"]:
        record["file_name"] = record["file_name"] if ".." in record["file_name"] else f"train-{record['file_name']}"
    (root / "train.json").write_text(json.dumps(page))
    with pytest.raises(DataError, match=says) as caught:
        load(root)
    assert "train.json" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_files(tmp_path) -> None:
    root = makers.write(tmp_path / "p", train=makers.plain(), test=makers.plain())
    good = (root / "train.json").read_text()
    for text, says in (
        (good[:-20], "is not valid JSON"),
        ("[]", "lacks the list images"),
        ("[" * 100_000, "valid JSON"),
        (good.replace('"cat"', r'"cat \ud83d"'), r"train.json has half of a character in a text \('.*cat \\ud83d'\)"),
    ):
        (root / "train.json").write_text(text)
        with pytest.raises(DataError, match=says):
            load(root)
    (root / "train.json").write_text(good.replace('"cat"', r'"cat \ud83d\ude00"'))
    assert load(root).train.class_names[0] == "cat \N{GRINNING FACE}"
    (root / "train.json").write_text(good)
    (root / "images" / "train-2.png").rename(tmp_path / "away.png")
    with pytest.raises(DataError, match=r"image 12 is called train-2.png, which is not in .*images; add the file"):
        load(root)
    (tmp_path / "away.png").rename(root / "images" / "train-2.png")
    (root / "valid.json").write_text(good)
    (root / "val.json").write_text(good)
    with pytest.raises(DataError, match="both annotations of the val split"):
        load(root)


def test_an_image_of_another_size_than_its_record(tmp_path) -> None:
    root = makers.write(tmp_path / "p", train=makers.plain(), test=makers.plain())
    page = json.loads((root / "train.json").read_text())
    page["images"][2]["width"] = 31
    (root / "train.json").write_text(json.dumps(page))
    with pytest.raises(DataError, match=r"train-2\.png has 30x20 pixels but train.json says 31x20"):
        load(root)
    splits = load(root, on_bad="skip")
    assert splits.train.ids.tolist() == [0, 1] and "1 of 3 images was skipped" in splits.notes[1]


def test_a_test_object_of_a_class_that_training_lacks(tmp_path) -> None:
    test = makers.page([(20, 30)], [(0, 0, [1, 1, 5, 5])], names=("bird",))
    splits = load(makers.write(tmp_path / "p", train=makers.plain(), test=test))
    with pytest.raises(
        DataError, match=r"test-0.png holds .* 'bird', which the training split lacks \(it has cat, dog\)"
    ):
        _ = splits.test


def test_labels_are_refused_in_a_sentence(tmp_path) -> None:
    real = load(makers.write(tmp_path / "p", train=makers.plain(), test=makers.plain())).train
    with pytest.raises(UsageError, match="p is a set for detection, whose examples have no one class each"):
        _ = real.labels


@pytest.mark.parametrize("name, n, objects", [("bccd", 292, [3348, 301, 292]), ("raccoon", 156, [169])])
def test_real_sets(data, name, n, objects) -> None:
    splits = load(data(name))
    assert len(splits.train) == n
    assert objects_of(splits.train.table).category.bincount().tolist() == objects
    assert Path(splits.train.source["images"]).name == "images"


def test_what_is_no_json_number_is_refused_before_any_work(tmp_path) -> None:
    made = {**makers.plain(), "info": {"version": float("nan")}}
    large = {**makers.plain(), "info": {"version": "large"}}
    with pytest.raises(DataError, match=r"not valid JSON \(NaN is no JSON number\)"):
        load(makers.write(tmp_path / "p", train=made, test=makers.plain()))
    page = makers.write(tmp_path / "q", train=large, test=makers.plain()) / "train.json"
    page.write_text(page.read_text().replace('"large"', "1e999"))
    with pytest.raises(DataError, match=r"not valid JSON \(1e999 is no finite number\)"):
        load(tmp_path / "q")
