"""The order of batches, loading them ahead of time, and what tells data sets apart."""

import threading

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


def test_batches_come_in_order_and_are_loaded_two_ahead():
    loaded, ahead = [], threading.Event()

    def load(i):
        loaded.append((i, threading.current_thread().name))
        if len(loaded) == 3:
            ahead.set()
        return numpy.array(i)
    batches = prefetch(load, range(4, 9))
    assert next(batches) == 4
    ahead.wait()                # 5 and 6 are loaded although nobody has asked for them
    assert [int(batch) for batch in batches] == [5, 6, 7, 8]
    assert [i for i, _ in loaded] == [4, 5, 6, 7, 8] and all(name.startswith("batches") for _, name in loaded)


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


def test_no_thread_is_left_where_batches_are_not_used_up():
    batches = prefetch(numpy.array, range(1, 100))
    next(batches)
    batches.close()
    assert "batches" not in " ".join(thread.name for thread in threading.enumerate())


def test_a_fingerprint_tells_data_sets_apart():
    images = numpy.random.default_rng(0).random((3000, 4)).astype("float32")
    others = [images[:-1], images.astype("float64"), images.reshape(3000, 2, 2), 1 - images]
    found = [fingerprint(array) for array in (images, *others)]
    assert len(set(found)) == 5 and fingerprint(images.copy()) == found[0]
