"""Many Python threads at once, and children forked after the parent has used the pool."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import thinned
from thinned import Key, _kernel

N = 300_000


@pytest.fixture(autouse=True)
def four_threads():
    thinned.set_num_threads(4)
    yield
    _kernel._threads = None


def digest(stream):
    return thinned.keep_mask(N, 0.3, key=Key(1, stream)).tobytes()


def test_many_python_threads_get_their_own_masks():
    thinned.set_num_threads(1)
    expected = [digest(s) for s in range(8)]
    thinned.set_num_threads(4)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            assert list(pool.map(digest, range(8))) == expected


def _child(queue):
    queue.put(digest(5))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where another test has loaded it
def test_forked_children_after_the_parent_used_the_pool():
    expected = digest(5)
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        queue = context.Queue()
        children = [context.Process(target=_child, args=(queue,)) for _ in range(3)]
        for child in children:
            child.start()
        assert [queue.get(timeout=60) for _ in children] == [expected] * 3
        for child in children:
            child.join(timeout=60)
            assert child.exitcode == 0
    assert digest(5) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where another test has loaded it
def test_fork_while_other_threads_are_inside_the_kernel():
    expected = digest(5)
    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(lambda: [digest(s) for s in range(60)]) for _ in range(3)]
        queue = context.Queue()
        child = context.Process(target=_child, args=(queue,))
        child.start()
        assert queue.get(timeout=60) == expected
        child.join(timeout=60)
        assert child.exitcode == 0
        for job in work:
            job.result(timeout=60)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not list threads")
def test_there_are_never_more_threads_than_processors():
    """In a process of its own, where no other library has threads; and what was asked for is still done."""
    code = """
import os, sys
import thinned
from thinned import Key
expected = thinned.keep_mask(300_000, 0.3, key=Key(1)).tobytes()
before = len(os.listdir("/proc/self/task"))
for n in (10**6, 64, 2, 2**31 - 1, 1, 7):
    thinned.set_num_threads(n)
    assert thinned.get_num_threads() == n
    for _ in range(20):
        assert thinned.keep_mask(300_000, 0.3, key=Key(1)).tobytes() == expected
print(before, len(os.listdir("/proc/self/task")), os.cpu_count())
"""
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    before, after, processors = map(int, child.stdout.split() or [0, 0, 0])
    assert after <= max(before, processors), child.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is set as on Linux")
def test_a_system_that_gives_no_threads():
    """The caller then does all the work itself."""
    code = """
import resource, threading
import thinned
from thinned import Key
thinned.set_num_threads(1)
expected = thinned.keep_mask(300_000, 0.3, key=Key(1)).tobytes()
pages = int(open("/proc/self/statm").read().split()[0])
room = pages * resource.getpagesize() + (4 << 20)  # for the mask, and not for another stack
resource.setrlimit(resource.RLIMIT_AS, (room, room))
resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, resource.RLIM_INFINITY))
try:
    threading.Thread(target=print).start()
    print("a thread was given")
except RuntimeError:
    pass
thinned.set_num_threads(4)
mask = memoryview(thinned.keep_mask(300_000, 0.3, key=Key(1)))
print(mask.tobytes() == expected)
"""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert child.stdout.strip() == "True", child.stderr


def test_the_lock_is_released_during_a_pass():
    """Another Python thread runs many times between the beginning and the end of one long call."""
    thinned.set_num_threads(1)
    inside, ticks = threading.Event(), 0

    def work():
        inside.set()
        thinned.keep_mask(2**29, 0.1, key=Key(0))
        inside.clear()

    worker = threading.Thread(target=work)
    worker.start()
    while worker.is_alive():
        time.sleep(0.002)
        ticks += inside.is_set()
    assert ticks >= 5, "the interpreter stood still while the kernel ran"
