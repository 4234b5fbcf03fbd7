"""Images that do not fit into memory: batches equal those from memory, for steps in any order; errors are one line."""

import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from sslpipe.data import batches as batches_module
from sslpipe.data import images as images_module
from sslpipe.data import reading, world
from sslpipe.data.batches import Batches, LabelledBatches, Needs, PairedBatches
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.seeds import seed_of_step
from sslpipe.data.unread_images import ChosenImages, JoinedImages
from sslpipe.io.errors import UserError

CPU = torch.device("cpu")
COUNT, SHAPE = 90, (3, 4, 5)
PIXELS = np.random.default_rng(0).integers(256, size=(COUNT, *SHAPE), dtype=np.uint8)
EVERYTHING = Needs()
NEIGHBORS = torch.randint(COUNT, (COUNT, 5), generator=torch.Generator().manual_seed(1))


class Encoded:
    """Images that threads read by a method of their own."""

    shape, nbytes, is_in_order = PIXELS.shape, PIXELS.nbytes, True

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return PIXELS[index]

    def read_into(self, index, out):
        assert threading.current_thread().name == "sslpipe-reader"
        out.copy_(torch.from_numpy(PIXELS[index]))


@pytest.fixture(autouse=True)
def nothing_fits(monkeypatch):
    monkeypatch.setattr(images_module, "fits", lambda size, device, free: False)
    monkeypatch.setattr(batches_module, "fits", lambda size, device, free: False)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "images.npy", PIXELS)
    return tmp_path / "images.npy"


def mapped(path):
    return np.load(path, mmap_mode="r")


def drawn(index, generator):
    return NEIGHBORS[index].gather(1, torch.randint(5, (len(index), 1), generator=generator))[:, 0]


def form_of(name, path):
    array = mapped(path)
    padded = path.with_name("padded.npy")
    np.save(padded, np.concatenate([PIXELS[:7], PIXELS]))
    return {
        "file": lambda: array,
        "part of a file": lambda: np.load(padded, mmap_mode="r")[7:],
        "encoded": Encoded,
        "joined": lambda: JoinedImages([array[:40], array[40:]]),
        "chosen": lambda: ChosenImages(array, np.arange(COUNT)),
        "every second row": lambda: np.load(padded, mmap_mode="r")[7:, :, :, ::1][:, :, ::1],
    }[name]()


FORMS = ["file", "part of a file", "encoded", "joined", "chosen", "every second row"]


def pairs(images, needs=EVERYTHING):
    index = torch.arange(1, COUNT, 2)
    labelled = LabelledImages(images, index, index % 3, ("a", "b", "c"))
    return PairedBatches(Batches(images, 16, seed=3, needs=needs), LabelledBatches(labelled, 10, seed=3))


def same(found, expected):
    assert torch.equal(found.unlabelled.image, expected.unlabelled.image)
    assert torch.equal(found.labelled.image, expected.labelled.image)
    assert torch.equal(found.unlabelled.index, expected.unlabelled.index)
    if expected.unlabelled.neighbor is not None:
        assert torch.equal(found.unlabelled.neighbor_image, expected.unlabelled.neighbor_image)
        assert torch.equal(found.unlabelled.neighbor, expected.unlabelled.neighbor)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("neighbors", [None, drawn])
def test_batches_are_those_from_memory(path, form, neighbors):
    needs = Needs(neighbors=neighbors)
    kept, unread = pairs(Images(PIXELS.copy(), CPU), needs), pairs(Images(form_of(form, path), CPU), needs)
    # Through the ends of epochs, again, back, and far ahead, as after a resume; with and without the run's generator.
    for step in [*range(13), 12, 3, 4, 1000, 1001, 0]:
        generator = torch.Generator().manual_seed(seed_of_step(3, step)) if step % 2 else None
        same(unread.at(step, generator), kept.at(step))
    assert unread.unlabelled.images.resident is None


@pytest.mark.parametrize("form", ["file", "encoded"])
def test_each_process_reads_its_own_rows(path, form, monkeypatch):
    whole = pairs(Images(PIXELS.copy(), CPU), Needs(neighbors=drawn))
    expected = [whole.at(step) for step in range(7)]
    monkeypatch.setattr(world, "_sharing", True)
    monkeypatch.setattr(world, "size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(world, "rank", lambda rank=rank: rank)
        own = pairs(Images(form_of(form, path), CPU), Needs(neighbors=drawn))
        for step in range(7):
            found = own.at(step)
            assert torch.equal(found.unlabelled.image, expected[step].unlabelled.image[rank::2])
            assert torch.equal(found.unlabelled.neighbor_image, expected[step].unlabelled.neighbor_image[rank::2])
            assert torch.equal(found.labelled.image, expected[step].labelled.image[rank::2])


def test_neighbours_that_differ_from_those_read_ahead_are_read(path):
    batches = Batches(Images(mapped(path), CPU), 16, seed=3, needs=Needs(neighbors=drawn))
    batches.at(0)
    batch = batches.at(1, torch.Generator().manual_seed(99))
    assert batch.neighbor.tolist() == drawn(batch.index, torch.Generator().manual_seed(99)).tolist()
    assert torch.equal(batch.neighbor_image, torch.from_numpy(PIXELS[batch.neighbor.numpy()]))
    assert torch.equal(batch.image, torch.from_numpy(PIXELS[batch.index.numpy()]))


@pytest.mark.parametrize("form", FORMS)
def test_a_pass_has_all_images_in_order(path, form):
    images = Images(form_of(form, path), CPU)
    for size in (16, 30, 100):
        parts = [images.part(start, start + size) for start in range(0, COUNT, size)]
        assert np.array_equal(torch.cat(parts).numpy(), PIXELS)
        assert "_pass" not in vars(images)  # its memory is given back
    assert torch.equal(images.part(30, 40), torch.from_numpy(PIXELS[30:40]))


def test_a_batch_stays_as_it_is_and_memory_is_used_again(path):
    batches = Batches(Images(mapped(path), CPU), 16, seed=3)
    kept = [batches.at(step) for step in range(10)]
    for batch in kept:
        assert torch.equal(batch.image, torch.from_numpy(PIXELS[batch.index.numpy()]))
    assert len({batch.image.data_ptr() for batch in kept}) == 10
    view = kept[3].image[5:7, 1]
    expected = view.clone()
    del kept, batch
    places = set()
    for step in range(10, 60):
        places.add(batches.at(step).image.data_ptr())
    assert len(places) <= 13  # those of the ten kept ones and of what was read ahead
    assert torch.equal(view, expected)
    batches = Batches(Images(mapped(path), CPU), 16, seed=3)
    assert len({batches.at(step).image.data_ptr() for step in range(50)}) <= 4


def test_a_step_without_images_reads_nothing(path, monkeypatch):
    monkeypatch.setattr(os, "preadv", lambda *given: pytest.fail("images are read"))
    batches = Batches(Images(mapped(path), CPU), 16, seed=3, needs=Needs(images=lambda step: step >= 4))
    assert [len(batches.at(step).image) for step in range(4)] == [0] * 4
    monkeypatch.undo()
    assert len(batches.at(4).image) == 16


def test_few_labelled_images_stay_in_memory(path, monkeypatch):
    monkeypatch.setattr(batches_module, "fits", lambda size, device, free: True)
    stream = pairs(Images(mapped(path), CPU), Needs(images=lambda step: False))
    kept = pairs(Images(PIXELS.copy(), CPU))
    assert torch.equal(stream.at(0).labelled.image, kept.at(0).labelled.image)
    path.unlink()
    monkeypatch.setattr(os, "preadv", lambda *given: pytest.fail("images are read again"))
    for step in range(1, 12):
        assert torch.equal(stream.at(step).labelled.image, kept.at(step).labelled.image)
    assert "resident" not in vars(stream.unlabelled.images)  # not even asked for


def test_many_labelled_images_are_read_ahead(path, monkeypatch):
    monkeypatch.setattr(batches_module, "fits", lambda size, device, free: True)
    monkeypatch.setattr(batches_module, "LABELLED_BYTES", 45 * 60 - 1)
    monkeypatch.setattr(Images, "subset", lambda self, index: pytest.fail("they are all read"))
    stream = pairs(Images(mapped(path), CPU), Needs(images=lambda step: False))
    assert torch.equal(stream.at(5).labelled.image, pairs(Images(PIXELS.copy(), CPU)).at(5).labelled.image)


def test_rows_that_lie_together_are_read_at_once(path, monkeypatch):
    preadv, asked = os.preadv, []
    monkeypatch.setattr(os, "preadv", lambda *given: asked.append(len(given[1])) or preadv(*given))
    monkeypatch.setattr(reading, "PARTS", 2)
    monkeypatch.setattr(reading, "MOST_BUFFERS", 12)
    index = np.array([11, 3, 10, 3, *range(89, 61, -1)])
    out = torch.empty(len(index), *SHAPE, dtype=torch.uint8)
    reading.readers().read(reading.rows_of(mapped(path)), index, out)
    assert np.array_equal(out.numpy(), PIXELS[index])
    # 3; 3; 10, 11 and 62 to 73, which are half of the rows; the others in twelve and four.
    assert sorted(asked) == [1, 1, 2, 4, 12, 12]
    for wrong in ([0, COUNT], [-1]):
        with pytest.raises(IndexError):
            reading.rows_of(mapped(path)).works(np.array(wrong), out)


def test_reads_that_are_short(path, monkeypatch):
    preadv = os.preadv

    def little(file, buffers, at):
        return preadv(file, [buffers[0][: max(len(buffers[0]) // 2, 1)]], at)

    def half(file, buffers, at):
        return preadv(file, [*buffers[: len(buffers) // 2], buffers[len(buffers) // 2][:7]], at)

    for short in (little, half):
        monkeypatch.setattr(os, "preadv", short)
        images = Images(mapped(path), CPU)
        assert np.array_equal(images.part(0, COUNT).numpy(), PIXELS)


def fails(images, match):
    with pytest.raises(UserError, match=match) as raised:
        Batches(images, 16, seed=3).at(0)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_shorter_than_it_says(path):
    images = Images(mapped(path), CPU)
    os.truncate(path, path.stat().st_size - 1)
    batches = Batches(images, 90, seed=3)
    with pytest.raises(UserError, match=rf"{path}: ends after \d+ bytes, expected .*run 'sslpipe prepare' again"):
        batches.at(0)
    with pytest.raises(UserError, match="ends after"):
        images.part(0, COUNT)
    os.truncate(path, 0)
    fails(Images(images.array, CPU), "ends after")


def test_a_file_that_is_gone(path):
    array = mapped(path)
    kept = Batches(Images(array, CPU), 16, seed=3)
    kept.at(0)
    path.unlink()
    for step in range(20):  # a file that is open can be read on
        assert torch.equal(kept.at(step).image, torch.from_numpy(PIXELS[kept.at(step).index.numpy()]))
    fails(Images(array, CPU), rf"{path}: cannot be read \(No such file")


def settle(batches):
    """Wait for what is read ahead."""
    while not all(each.reading.is_done for each in batches._step_images._prefetcher._ahead.values()):
        time.sleep(0.001)


def test_an_error_of_the_disk_ends_the_step_that_needs_the_images(path, monkeypatch):
    batches = Batches(Images(mapped(path), CPU), 16, seed=3)
    batches.at(0)
    settle(batches)
    broken = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(os, "preadv", lambda *given: (_ for _ in ()).throw(broken))
    for step in (1, 2):  # these were read before
        assert len(batches.at(step).image) == 16
    with pytest.raises(UserError, match=rf"{path}: cannot be read \(Input/output error\)"):
        batches.at(3)
    settle(batches)
    monkeypatch.undo()
    with pytest.raises(UserError, match="cannot be read"):
        batches.at(4)
    assert torch.equal(batches.at(3).image, torch.from_numpy(PIXELS[batches.at(3).index.numpy()]))


def test_an_error_of_a_decoder(monkeypatch):
    def broken(self, index, out):
        raise UserError("images.jpg: image 3 cannot be decoded")

    monkeypatch.setattr(Encoded, "read_into", broken)
    fails(Images(Encoded(), CPU), "images.jpg: image 3 cannot be decoded")


def test_a_jump_drops_what_was_read_ahead():
    read, go = [], threading.Event()

    class Slow(Encoded):
        def read_into(self, index, out):
            if index[0] not in first:
                go.wait()
            read.extend(index.tolist())
            out.copy_(torch.from_numpy(PIXELS[index]))

    batches = Batches(Images(Slow(), CPU), 16, seed=3)
    first = batches._places(0).tolist()
    batches.at(0)
    timer = threading.Timer(0.2, go.set)
    timer.start()
    batch = batches.at(1000)
    timer.join()
    wanted = {*first, *(n for step in range(1000, 1003) for n in batches._places(step).tolist())}
    assert len(set(read) - wanted) <= reading.THREADS  # one each was being read
    assert torch.equal(batch.image, torch.from_numpy(PIXELS[batch.index.numpy()]))


def readers_alive():
    return [thread for thread in threading.enumerate() if thread.name == "sslpipe-reader"]


def test_threads_end_with_their_streams(path):
    gc.collect()
    before, files = len(readers_alive()), len(os.listdir("/dev/fd"))
    kept = [Batches(Images(mapped(path), CPU), 16, seed=3) for _ in range(5)]
    for _ in range(100):
        Batches(Images(mapped(path), CPU), 16, seed=3).at(3)
        for stream in kept:
            stream.at(3)
    assert len(readers_alive()) <= before + reading.THREADS
    del kept, stream
    assert len(readers_alive()) == before
    assert len(os.listdir("/dev/fd")) == files


PROGRAM = """
    import os, sys, threading, time
    import numpy as np, torch
    from sslpipe.data import images
    from sslpipe.data.batches import Batches
    from sslpipe.data.images import Images
    images.fits = lambda size, device, free: False
    stream = Batches(Images(np.load(sys.argv[1], mmap_mode="r"), torch.device("cpu")), 16, seed=3)
    first = stream.at(0).image.clone()
    time.sleep(0.3)  # so that the next two batches are there
    preadv = os.preadv
    def slow(*given):
        time.sleep(float(sys.argv[2]))
        return preadv(*given)
    os.preadv = slow
"""


@contextmanager
def program(path, seconds, rest):
    """A process in which reads take so many seconds from the first batch on; its lines, without that about memory."""
    text = textwrap.dedent(PROGRAM) + textwrap.dedent(rest)
    command = [sys.executable, "-c", text, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "are read from the disk" in process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_a_process_ends_while_threads_read(path):
    with program(path, 60, "stream.at(2)") as process:
        start = time.monotonic()
        _, error = process.communicate(timeout=50)
        assert process.returncode == 0, error
        assert time.monotonic() - start < 50


def test_ctrl_c_ends_a_step_that_waits_for_the_disk(path):
    with program(path, 3600, "print('waits', flush=True); stream.at(500)") as process:
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
        assert process.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in error


def test_a_fork_reads_with_threads_of_its_own(path):
    rest = """
        child = os.fork()
        found = [stream.at(step).image for step in range(4)]
        good = torch.equal(found[0], first) and threading.active_count() == 9
        if not child:
            os._exit(0 if good else 1)
        assert good
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    with program(path, 0.01, rest) as process:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
