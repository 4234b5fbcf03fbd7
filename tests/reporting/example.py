"""Reports of made-up projects: the dictionaries that page.py takes, for any number of images and groups."""

import base64

import numpy as np
from PIL import Image

from sslpipe.reporting.page import write_page

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>.png",
    "n" * 300 + ".jpg",
    "שלום עולם.png",
    "\u202egnp.exe",
    "quotes \" ' ` & amp;.png",
    "new\nline\tand tab.png",
    "<!-- comment \u2028 line separator.png",
    "no utf-8 \udce9\udcff.png",
    "{{ 7 * 7 }} ${7 * 7} %3Cscript%3E.png",
    "__proto__",
    "javascript:alert(1)//.png",
]
"""Names of files and classes that do harm where they are taken for anything but text."""


def packed(array, kind):
    """Base64 of a little-endian array, such as kind "<u2"."""
    return base64.b64encode(np.asarray(array).astype(kind).tobytes()).decode()


def example(count, groups, *, classes=None, names=None, seed=0, k=8):
    """The summary and the parts of a project with one clustering and, where `classes` are named, one classifier.

    classes: names of the classes, as many as there are groups, or None for a project without labels.
    """
    random = np.random.default_rng(seed)
    truth = np.arange(count) % groups
    split = np.repeat([0, 1, 2], [count * 7 // 10, count // 10, count - count * 7 // 10 - count // 10])
    group = np.where(random.random(count) < 0.12, random.integers(0, groups, count), truth)
    names = names or [f"folder {index % 7}/image-{index:05d}.jpg" for index in range(count)]
    labels = truth if classes else np.full(count, -1)
    entries = [("cluster", "cluster", "scan_heads", "groups")]
    entries += [("semisup/suave", "semisup", "suave", "classes")] if classes else []
    models = [
        {"name": name, "stage": stage, "method": method, "kind": kind, "groups": groups, "file": f"model-{number}"}
        | {"scores": {"acc": 0.88} if classes else None}
        for number, (name, stage, method, kind) in enumerate(entries)
    ]
    parts = {
        "images": {
            "count": count,
            "names": names,
            "split": packed(split, "u1"),
            "label": packed(labels, "<i2"),
            "given": packed((labels >= 0) & (np.arange(count) % 10 == 0) & (split == 0), "u1"),
        },
        **{f"model-{n}": _model(entry, random, truth, group, split, classes) for n, entry in enumerate(models)},
        "map": _map(random, truth, groups),
        "neighbors": _neighbors(random, truth, groups, k),
        "doubts": _doubts(truth, split, classes),
        "training": {
            "stages": [_history("pretrain", "simclr", random, 60), _history("cluster", "scan_heads", random, 30)]
        },
    }
    first = [image for group in parts["model-0"]["groups"] for image in group["prototypes"][:12]]
    return _summary(count, split, models, classes, list(dict.fromkeys(first))), parts


def _summary(count, split, models, classes, first):
    numbers = np.bincount(split, minlength=3).tolist()
    rows = [[model["name"], model["method"], 0.8812 if classes else None, 0.9231, model["groups"]] for model in models]
    settings = [
        ("", "seed", 0, "params.yaml"),
        ("cluster.scan_heads", "entropy_weight", 5.0, "default"),
        ("cluster.scan_heads", "lr", 0.001, "params.yaml"),
        ("semisup.suave", "temperature", 0.1, "default"),
    ]
    return {
        "title": "An example of a report",
        "version": "0.4.0",
        "protocol": "split",
        "seed": 0,
        "images": dict(zip(("train", "held_out", "test"), numbers, strict=True)),
        "size": 32,
        "classes": classes,
        "pictures": {
            "side": 64,
            "columns": 32,
            "perSheet": 1024,
            "sheets": -(-count // 1024),
            "extension": "jpg",
            "first": first,
        },
        "originals": None,
        "models": models,
        "table": {"columns": ["model", "method", "acc", "nmi", "groups"], "rows": rows}
        | {"decimals": [None, None, 3, 3, None]},
        "labelled": f"{4 * len(classes)} labels (4 a class)" if classes else None,
        "settings": [dict(zip(("block", "key", "value", "source"), row, strict=True)) for row in settings],
        "lineage": [
            "runs/cluster  scan_heads, 10 groups",
            "└─ runs/features  tiny_resnet, 128 dimensions",
            "   └─ runs/data",
        ],
        "notes": []
        if classes
        else ["No labels are known: purity, confusion, calibration and doubtful labels are left out."],
        "single": False,
    }


def _model(entry, random, truth, group, split, classes):
    groups = entry["groups"]
    confidence = np.where(group == truth, random.beta(8, 1.2, len(group)), random.beta(3, 3, len(group)))
    second = (group + 1 + random.integers(0, max(1, groups - 1), len(group))) % groups
    margin = confidence * random.random(len(group))
    found = []
    for number in range(groups):
        members = np.flatnonzero(group == number)
        sure = members[np.argsort(-confidence[members], kind="stable")]
        near = members[np.argsort(margin[members], kind="stable")][:24]
        counts = np.bincount(truth[members], minlength=groups) / max(1, len(members))
        mix = [[int(each), float(counts[each])] for each in np.argsort(-counts)[:3] if counts[each]] if classes else []
        found.append(
            {"id": number, "name": classes[number] if classes else None, "size": len(members), "mix": mix}
            | {"known": len(members) if classes else 0, "purity": mix[0][1] if mix else None}
            | {"share": len(members) / len(group), "prototypes": sure[:24].tolist(), "least": sure[::-1][:24].tolist()}
            | {"between": [[int(image), int(second[image])] for image in near]}
        )
    tested = np.flatnonzero(split == 2)
    counts = np.zeros((groups, groups), int)
    np.add.at(counts, (truth[tested], group[tested]), 1)
    known = classes is not None
    return {
        "name": entry["name"],
        "group": packed(group, "<u2"),
        "confidence": packed(confidence * 255, "u1"),
        "second": packed(second, "<u2"),
        "margin": packed(margin * 255, "u1"),
        "groups": found,
        "order": random.permutation(groups).tolist(),
        "confusion": {
            "rows": classes,
            "columns": classes,
            "outputs": list(range(len(classes))),
            "counts": counts.tolist(),
            "split": "test",
        }
        if known
        else None,
        "perClass": [_scores(name, counts, row) for row, name in enumerate(classes)] if known else None,
        "calibration": _calibration(confidence[tested], (group == truth)[tested]) if known else None,
    }


def _scores(name, counts, row):
    right, images, predicted = counts[row, row], counts[row].sum(), counts[:, row].sum()
    recall, precision = right / max(1, images), right / max(1, predicted)
    f1 = 2 * recall * precision / max(1e-9, recall + precision)
    return {
        "name": name,
        "images": int(images),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def _calibration(confidence, right, bins=10):
    found, error = [], 0.0
    for low in np.arange(bins) / bins:
        inside = (confidence >= low) & (confidence < low + 1 / bins)
        mean = (float(confidence[inside].mean()), float(right[inside].mean())) if inside.any() else (0.0, 0.0)
        row = (float(low), float(low + 1 / bins), int(inside.sum()), *mean)
        found.append(dict(zip(("low", "high", "count", "confidence", "accuracy"), row, strict=True)))
        error += inside.mean() * abs(mean[0] - mean[1])
    return {"bins": found, "ece": float(error)}


def _map(random, truth, groups):
    """Groups as clouds on a ring, in 0 … 65535."""
    angle = 2 * np.pi * truth / groups
    centre = np.stack([np.cos(angle), np.sin(angle)], 1) * (0.3 + 0.1 * (truth % 2))[:, None]
    places = np.clip(0.5 + centre + random.normal(0, 0.045, (len(truth), 2)), 0, 1) * 65535
    how = "By openTSNE from the mined neighbours, for looking: nothing is clustered upon it."
    return {"x": packed(places[:, 0], "<u2"), "y": packed(places[:, 1], "<u2"), "how": how}


def _neighbors(random, truth, groups, k):
    count = len(truth)
    index = (np.arange(count)[:, None] + groups * random.integers(1, max(2, count // groups), (count, k))) % count
    return {
        "k": k,
        "index": packed(index, "<u4"),
        "similarity": packed(np.tile(np.linspace(250, 180, k), (count, 1)), "u1"),
    }


def _doubts(truth, split, classes):
    count = len(truth)
    pairs = [(0, count - 1), (1, 2), (3, count - 3)]
    duplicates = [
        {"images": [a, b], "similarity": 0.999 - 0.01 * number, "splits": sorted({int(split[a]), int(split[b])})}
        | {"conflict": bool(classes) and bool(truth[a] != truth[b])}
        for number, (a, b) in enumerate(pairs)
    ]
    labels = (
        [
            {
                "image": image,
                "given": int(truth[image]),
                "suggested": int(truth[image] + 1) % len(classes),
                "score": 0.95 - 0.02 * image,
            }
            for image in range(min(20, count))
        ]
        if classes
        else None
    )
    how = {
        "duplicates": "Cosine similarity of the features above 0.97.",
        "labels": "Model and neighbours disagree with the label.",
    }
    return {"duplicates": duplicates, "labels": labels, "how": how}


def _history(name, method, random, rows):
    steps = np.arange(1, rows + 1)
    loss = 4 * np.exp(-steps / 15) + 1 + random.normal(0, 0.03, rows)
    columns = ["step", "epoch", "lr", "loss", "skipped", "held_out_acc"]
    values = [
        [int(s) * 20, int(s), 1e-3 * (1 - s / rows), float(loss[s - 1]), 0.0, None if s % 3 else float(0.9 - 0.5 / s)]
        for s in steps
    ]
    return {"name": name, "method": method, "columns": columns, "rows": values}


def gradients(count, seed=0):
    """Pictures [count, 64, 64, 3] of one hue each, with a slope, so that they differ."""
    random = np.random.default_rng(seed)
    slope = np.linspace(0.4, 1, 64)[None, :, None, None]
    return (random.integers(40, 255, (count, 1, 1, 3)) * slope).astype(np.uint8).repeat(64, axis=2)


def write_example(folder, summary, parts, pictures):
    """Write a report with its sprite sheets. pictures: [N, 64, 64, 3], uint8."""
    folder.mkdir(parents=True, exist_ok=True)
    write_page(folder, summary, parts)
    (folder / "sprites").mkdir(exist_ok=True)
    for start, shown in (("", pictures), ("first-", pictures[summary["pictures"]["first"]])):
        for sheet in range(-(-len(shown) // 1024)):
            canvas = np.zeros((1024, 64, 64, 3), np.uint8)
            part = shown[1024 * sheet : 1024 * (sheet + 1)]
            canvas[: len(part)] = part
            pixels = canvas.reshape(32, 32, 64, 64, 3).swapaxes(1, 2).reshape(2048, 2048, 3)
            Image.fromarray(pixels).save(folder / f"sprites/{start}{sheet:04d}.jpg", quality=85)
    return folder / "index.html"
