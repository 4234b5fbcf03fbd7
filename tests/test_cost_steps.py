"""The cost model predicts a step of each method, whatever the sides of its views."""

import torch

from benchmarks import cost
from benchmarks.report import Options


def test_a_step_of_every_method_has_a_prediction():
    table = cost.against_measured(Options(torch.device("cpu"), quick=True))
    flops = {row[0]: row[1] for row in table.rows}
    assert {"simclr", "scan", "confident", "fixmatch", "simmatch", "suave"} <= set(flops)
    assert min(flops.values()) > 0
    # Suave sees an image in two global and six small views, and labelled images beside it, SimCLR in two views.
    assert flops["suave"] > 5 * flops["simclr"]
