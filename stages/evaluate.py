"""Every model → figures on the test images, side by side."""

from pathlib import Path

from sslpipe.io import options


def evaluate(
    metric: options.Metric = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    clustered: options.Clustered = Path("runs/cluster"),
    self_labelled: options.SelfLabelled = Path("runs/self-label"),
    runs: options.Runs = Path("runs"),
    out: options.Out = Path("runs/evaluate"),
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Score every model on the test images, which no other stage opens.

    Which models: those whose stage has a block in params.yaml.
    """
    from dataclasses import asdict

    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.io.files import whole_folder, write_json
    from sslpipe.io.params import Params
    from sslpipe.methods.scoring import classifiers, score
    from sslpipe.metrics.grade import Grade, grade, write_grades
    from sslpipe.metrics.kmeans import KMeansSettings, Vectors, kmeans
    from sslpipe.metrics.table import chosen_figures, print_table
    from sslpipe.nets.inference import flat_pixels, probabilities, unit_features
    from sslpipe.nets.model_file import card_for, load_network, weights_path

    figures = chosen_figures(metric)
    project = Params(params)
    project.override({"seed": seed}, assignments, stage="evaluate")
    settings = project.parse(KMeansSettings, "evaluate")

    store = Store(prepared)
    classes, on = store.classes, choose_device(device)
    scored, label = store.scored()
    train, images = Images(store.images("train"), on), Images(scored, on)
    grades: dict[str, Grade] = {}
    with whole_folder(out) as folder:
        groups = project.present({"cluster": clustered, "self_label": self_labelled})
        groupings = {
            name: probabilities(load_network(path, store.info).to(on).eval(), images) for name, path in groups.items()
        }
        clusters = next((answer.shape[1] for answer in groupings.values()), len(classes))
        spaces: dict[str, Vectors] = {"pixels": flat_pixels}
        for path in project.present({"pretrain": pretrained}).values():
            spaces["features"] = unit_features(load_network(path, store.info).to(on).eval())
        for name, vectors in spaces.items() if clusters else ():
            nearest = kmeans(vectors, train, images, clusters=clusters, settings=settings, seed=project.seed)
            grades[f"kmeans_{name}"] = grade(nearest, label, classes, clusters=clusters)
        for name, answer in groupings.items():
            grades[name] = grade(answer, label, classes, clusters=clusters)
        methods = {stage: project.names(f"{stage}.methods") for stage in ("semisup", "finetune")}
        knowing = classifiers(runs, methods)
        for name, path in knowing.items():
            grades[name] = score(path, store, images, label)
        weights = [weights_path(path) for path in {**groups, **knowing}.values()]
        card = card_for("evaluate", store.info, settings, parent=None, inputs=weights)
        write_json(folder / "card.json", asdict(card))
        facts = {"protocol": store.info.protocol, "seed": project.seed, "images": len(label)}
        metrics = write_grades(folder, grades, classes, facts)
    print_table(metrics, figures)
