"""Sub-folders that are no classes, as data sets, cameras and programs have them, are doubted with their names."""

import pytest

from sslpipe.preparation.class_folders import difference, doubts, masks_note


def doubt(*names):
    groups = {}
    for name in names:
        folder, _, image = name.partition("/")
        groups.setdefault(folder, []).append(image)
    return next(doubts(groups), None)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["images/1.png", "masks/1.png"], "images/ has the name of a folder for images of any class, beside masks/"),
        (["cat/1.png", "dog/1.png", "thumbnails/1.png"], "thumbnails/ has the name"),
        (["JPEGImages/1.jpg", "SegmentationClass/1.png"], "JPEGImages/ has the name"),
        (["annotations/trimaps/1.png", "images/1.jpg"], "annotations/, images/ have names of folders"),
        (["rgb/1.png", "depth/1.png"], "rgb/, depth/ have names"),
        (["fold1/1.png", "fold2/1.png"], "fold1/, fold2/ have names of folders for images of any class; keep one"),
        (["images_001/images/1.png", "images_002/images/2.png"], "images_001/, images_002/ have names"),
        (["DCIM/100APPLE/1.jpg", "MISC/1.jpg"], "DCIM/ has the name"),
        (["100APPLE/1.jpg", "101APPLE/2.jpg"], "100APPLE/, 101APPLE/ have names of a camera's folders"),
        (["100_PANA/1.jpg", "101MSDCF/2.jpg", "202405__/1.jpg"], "names of a camera's folders"),
        (["2019/1.jpg", "2020/1.jpg"], "2019/, 2020/ have names of dates, not of classes"),
        (["2024-05-01/1.jpg", "2024-05-02/1.jpg"], "have names of dates"),
        (["Photos from 2019/1.jpg", "Photos from 2020/1.jpg"], "have names of dates"),
        (["trainA/1.jpg", "testA/1.jpg"], "names of parts inside of trainA/, testA/"),
        (
            ["bounding_box_train/1.jpg", "bounding_box_test/1.jpg", "query/1.jpg"],
            "inside of bounding_box_train/, bound",
        ),
        (
            ["bottle/ground_truth/1.png", "bottle/test/1.png", "bottle/train/1.png", "cable/test/1.png"],
            "parts inside of classes (bottle/test/, bottle/train/), expected train/bottle/",
        ),
        (
            ["amazon/bike/1.jpg", "amazon/mug/1.jpg", "dslr/bike/1.jpg", "dslr/mug/1.jpg", "dslr/pen/1.jpg"],
            "bike/, mug/ in each of amazon/, dslr/",
        ),
        (["cat/1.jpg", "dog/1.jpg", "augmented/cat/1.jpg", "augmented/dog/1.jpg"], "cat/, dog/ in augmented/ as well"),
        (["cat/1.jpg", "cat /1.jpg"], "cat/ and cat / differ by blanks, zeros or invisible characters only"),
        (["cat/1.jpg", "cat\u200b/1.jpg"], "'cat\\u200b'/ differ by blanks, zeros or invisible"),
        (["1/1.jpg", "01/1.jpg"], "1/ and 01/ differ by"),
    ],
)
def test_what_is_no_class(names, text):
    assert text in doubt(*names)


@pytest.mark.parametrize(
    "names",
    [
        ["1800/1.jpg", "2019/1.jpg"],
        ["0/1.png", "1/1.png", "10/1.png"],
        ["part/1.jpg", "no part/1.jpg"],
        ["photos/1.jpg", "drawings/1.jpg"],
        ["steam_train/1.jpg", "electric_train/1.jpg"],
        ["bottle/good/1.jpg", "bottle/broken/1.jpg", "cable/good/1.jpg", "cable/cut/1.jpg"],
        ["cat/left/1.jpg", "cat/right/1.jpg", "dog/left/1.jpg", "dog/2.jpg"],
        ["with_mask/1.jpg", "without_mask/1.jpg"],
        ["red car/1.jpg", "red_car/1.jpg"],
        ["001ABC/1.jpg", "002.Albatross/1.jpg"],
    ],
)
def test_what_may_be_a_class(names):
    assert doubt(*names) is None


def test_names_that_differ_little():
    assert difference("Cat", "cat") == "case only"
    assert difference("K\u00e4fer", "Ka\u0308fer") == "Unicode form only"
    assert difference("STRASSE", "straße") == "case or Unicode form only"
    assert difference("cat", "cat") == difference("cat", "cats") == ""


def test_masks_beside_their_images_are_said():
    images = ["a/1.png", "a/1_mask.png", "a/2.png", "a/2_mask_1.png", "a/3_mask.png", "b/4 GT.tif", "b/4.jpg"]
    assert masks_note(images) == [
        "masks or depth maps by their names, read as any image: 3 files (a/1_mask.png, a/2_mask_1.png, b/4 GT.tif)"
    ]
    assert masks_note(["a/mask.png", "a/label.png", "a/1.png"]) == []
