import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from sslpipe.engine import world
from sslpipe.objectives.scan import scan
from sslpipe.objectives.simclr import nt_xent


def losses(weight, x, gather):
    first, second = gather(x[:, 0] @ weight), gather(x[:, 1] @ weight)
    return nt_xent(first, second, temperature=0.3) + scan(first, second, entropy_weight=2.0)["loss"]


def inputs():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, generator=generator), torch.randn(8, 2, 6, generator=generator)


def one_of_two(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    weight, x = inputs()
    weight.requires_grad_()
    loss = losses(weight, x.chunk(2)[rank], world.gather)
    loss.backward()
    dist.all_reduce(weight.grad)
    save_file({"loss": loss.detach(), "gradient": weight.grad / 2}, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


def test_one_process_is_the_identity():
    x = torch.ones(2)
    assert world.gather(x) is x
    assert (world.size(), world.rank()) == (1, 0)


def test_two_processes_have_the_loss_and_gradient_of_one_with_the_whole_batch(tmp_path):
    weight, x = inputs()
    weight.requires_grad_()
    expected = losses(weight, x, world.gather)
    expected.backward()
    mp.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(found["gradient"], weight.grad, rtol=1e-4, atol=1e-6)
