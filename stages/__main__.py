"""The command line: the stages in pipeline order, then the tools."""

import os
import sys
from typing import Any

import typer

from sslpipe.io.errors import LOST, ProcessLostError, UserError
from sslpipe.io.interrupts import stoppable
from sslpipe.io.own_process import own_number
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.features import features
from stages.finetune import finetune
from stages.mine_neighbors import mine_neighbors
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.report import report
from stages.self_label import self_label
from stages.semisup import semisup
from stages.tools.ask import ask
from stages.tools.doctor import doctor
from stages.tools.dvc import dvc
from stages.tools.estimate_clusters import estimate_clusters
from stages.tools.export import export
from stages.tools.init import init
from stages.tools.inspect import inspect
from stages.tools.label import label
from stages.tools.list_images import list_images
from stages.tools.log import log
from stages.tools.predict import predict
from stages.tools.recipe import recipe
from stages.tools.repeat import repeat
from stages.tools.settings import settings
from stages.tools.table import table


class App(typer.Typer):
    """A Typer application that prints a UserError as one line on stderr and exits with code 2."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command that the arguments name."""
        # OpenMP's threads spin while they wait. Long spinning makes torch ten times slower when other processes use the
        # cores; no spinning makes it a third slower on tiny images. The variable is read when the stages load torch.
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
        # Operations that torch lacks on Apple's GPUs are computed on the CPU; also read when torch is loaded.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
        if own_number():  # of the processes that train together the first one prints
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, until the end
        try:
            with stoppable():
                return super().__call__(*args, **kwargs)
        except ProcessLostError:
            sys.exit(LOST)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            # Such as a file that was deleted between two looks at it; without a path it is a defect.
            if error.filename is None:
                raise
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
            sys.exit(2)


app = App(
    name="sslpipe",
    help="Cluster and classify image collections with few or no labels: self-supervised pretraining, SCAN clustering "
    "and semi-supervised learning as one reproducible DVC pipeline. 'dvc repro' runs all stages.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for stage in (prepare, pretrain, features, mine_neighbors, cluster, self_label, semisup, finetune, evaluate, report):
    app.command(rich_help_panel="Stages")(stage)
TOOLS = (
    init,
    ask,
    label,
    predict,
    export,
    inspect,
    settings,
    estimate_clusters,
    table,
    log,
    repeat,
    list_images,
    doctor,
)
for tool in TOOLS:
    app.command(rich_help_panel="Tools")(tool)
# All that follows is DVC's, --help as well.
FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(rich_help_panel="Tools", add_help_option=False, context_settings=FORWARDED)(dvc)
app.add_typer(recipe, name="recipe", rich_help_panel="Tools")

if __name__ == "__main__":
    app()
