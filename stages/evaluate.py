"""Every model → figures on the test images, side by side."""

from pathlib import Path
from typing import Any

from sslpipe.io import options


def evaluate(
    metric: options.Metric = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    clustered: options.Clustered = Path("runs/cluster"),
    self_labelled: options.SelfLabelled = Path("runs/self-label"),
    out: options.Out = Path("runs/evaluate"),
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Score every model on the test images, which no other stage opens."""
    from numpy.typing import NDArray

    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.io.files import whole_folder
    from sslpipe.io.params import Params
    from sslpipe.metrics.grade import chosen_figures, grade, print_table, write_grades
    from sslpipe.metrics.kmeans import KMeansSettings, kmeans
    from sslpipe.nets.inference import flat_pixels, probabilities, unit_features
    from sslpipe.nets.model_file import load_network

    figures = chosen_figures(metric)
    project = Params(params)
    project.override({"seed": seed}, assignments, stage="evaluate")
    settings = project.parse(KMeansSettings, "evaluate")

    store = Store(prepared)
    folders = {"pretrain": pretrained, "cluster": clustered, "self_label": self_labelled}
    networks = {
        name: load_network(folder, store.info).to(choose_device(device)).eval() for name, folder in folders.items()
    }
    scored, label = store.scored()
    train, images = (Images(array, choose_device(device)) for array in (store.images("train"), scored))

    with whole_folder(out) as folder:
        soft = {name: probabilities(networks[name], images) for name in ("cluster", "self_label")}
        clusters = soft["cluster"].shape[1]
        grouped = {
            f"kmeans_{name}": kmeans(
                vectors(train), vectors(images), clusters=clusters, settings=settings, seed=project.seed
            )
            for name, vectors in (("pixels", flat_pixels), ("features", unit_features(networks["pretrain"])))
        }
        answers: dict[str, NDArray[Any]] = {**grouped, **soft}
        grades = {name: grade(answer, label, store.info.classes, clusters=clusters) for name, answer in answers.items()}
        facts = {"protocol": store.info.protocol, "seed": project.seed, "images": len(label)}
        metrics = write_grades(folder, grades, store.info.classes, facts)
    print_table(metrics, figures)
