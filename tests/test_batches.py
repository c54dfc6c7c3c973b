"""The order of batches, loading them ahead of time, and what tells data sets apart."""

import threading
from concurrent.futures import Executor, Future

import numpy
import pytest

from minigen.training.batches import Batches, LoadError, fingerprint, prefetch


def test_every_image_is_seen_once_per_epoch():
    batches = Batches(25, 4, seed=(3, 1))
    epochs = [numpy.concatenate([batches.indices(6 * epoch + i) for i in range(1, 7)]) for epoch in range(3)]
    assert all(len(set(epoch)) == 24 and set(epoch) <= set(range(25)) for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    assert (Batches(25, 4, seed=(3, 1)).indices(8) == batches.indices(8)).all()
    assert (Batches(25, 4, seed=(4, 1)).indices(8) != batches.indices(8)).any()
    assert (Batches(25, 4, seed=(3, 2)).indices(8) != batches.indices(8)).any()


def test_batches_come_in_order_from_another_thread():
    loaded = []

    def load(i):
        loaded.append((i, threading.current_thread().name))
        return numpy.array(i)
    assert [int(batch) for batch in prefetch(load, range(4, 9))] == [4, 5, 6, 7, 8]
    assert [i for i, _ in loaded] == [4, 5, 6, 7, 8] and all(name.startswith("batches") for _, name in loaded)


def test_two_batches_are_loaded_ahead_and_no_more(monkeypatch, at_once):
    monkeypatch.setattr("minigen.training.batches.ThreadPoolExecutor", at_once)
    loaded = []

    def load(i):
        loaded.append(i)
        return numpy.array(i)
    batches_and_newest = [(int(batch), loaded[-1]) for batch in prefetch(load, range(4, 9))]
    assert batches_and_newest == [(4, 6), (5, 7), (6, 8), (7, 8), (8, 8)]


def test_a_failure_names_the_iteration_and_the_cause():
    def load(i):
        if i == 3:
            raise OSError("the disk is gone")
        return numpy.array(i)
    batches = prefetch(load, range(1, 6))
    assert (next(batches), next(batches)) == (1, 2)
    with pytest.raises(LoadError,
                       match="the images of iteration 3 could not be loaded: the disk is gone") as found:
        next(batches)
    assert isinstance(found.value.__cause__, OSError)


def test_an_exhausted_iterator_is_a_failure_too():
    """What `next` raises would otherwise end the loop that wants the batch, or name no iteration."""
    with pytest.raises(LoadError, match="the images of iteration 4 could not be loaded: StopIteration"):
        next(prefetch(lambda i: next(iter(())), range(4, 9)))


def test_no_thread_is_left_when_batches_remain():
    batches = prefetch(numpy.array, range(1, 100))
    next(batches)
    batches.close()
    assert "batches" not in " ".join(thread.name for thread in threading.enumerate())


def test_a_process_that_may_have_no_more_threads(monkeypatch):
    class NoThreads(Executor):
        def __init__(self, *args, **options):
            super().__init__()

        def submit(self, work, *args):
            raise RuntimeError("can't start new thread")
    monkeypatch.setattr("minigen.training.batches.ThreadPoolExecutor", NoThreads)
    with pytest.raises(LoadError, match="iteration 4 could not be loaded: can't start new thread"):
        next(prefetch(numpy.array, range(4, 9)))


def test_batches_that_are_no_longer_wanted_are_not_loaded(monkeypatch):
    futures = []

    class Busy(Executor):
        """A thread that does the first piece of work and begins no other."""

        def __init__(self, *args, **options):
            super().__init__()

        def submit(self, work, *args):
            futures.append(Future())
            if len(futures) == 1:
                futures[0].set_result(work(*args))
            return futures[-1]
    monkeypatch.setattr("minigen.training.batches.ThreadPoolExecutor", Busy)
    batches = prefetch(numpy.array, range(1, 100))
    assert next(batches) == 1
    batches.close()
    assert [future.cancelled() for future in futures] == [False, True, True]


def test_a_fingerprint_tells_data_sets_apart():
    images = numpy.random.default_rng(0).random((3000, 4)).astype("float32")
    others = [images[:-1], images.astype("float64"), images.reshape(3000, 2, 2), 1 - images]
    found = [fingerprint(array) for array in (images, *others)]
    assert len(set(found)) == 5 and fingerprint(images.copy()) == found[0]


def test_every_image_is_in_the_fingerprint(monkeypatch):
    monkeypatch.setattr("minigen.training.batches._CHUNK", 800)     # 100 images
    images = numpy.zeros((2050, 2), "float32")
    before = fingerprint(images)
    for i in range(2050):
        changed = images.copy()
        changed[i, 1] = 1
        assert fingerprint(changed) != before


def test_a_fingerprint_is_one_of_the_values_and_not_of_their_place():
    images = numpy.random.default_rng(0).random((300, 4, 5, 1)).astype("float32")
    assert fingerprint(images[::2]) == fingerprint(images[::2].copy())
    assert fingerprint(numpy.zeros((0, 3))) == "float64 (0, 3) crc32 00000000"
    assert fingerprint(numpy.frombuffer(b"123456789", "uint8")) == "uint8 (9,) crc32 cbf43926"
