"""Random bytes are handed out once, whoever asks."""

import os
import threading

from app.entropy import Entropy


def test_no_byte_is_handed_out_twice() -> None:
    source = Entropy(os.urandom)
    got = [source(12) for _ in range(2000)]  # Several pages.
    assert {len(one) for one in got} == {12}
    assert len(set(got)) == len(got)
    assert len(source(32)) == 32


def test_each_thread_has_bytes_of_its_own() -> None:
    source = Entropy(os.urandom)
    got: list[bytes] = [source(16)]
    threads = [threading.Thread(target=lambda: got.append(source(16))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 9


def test_a_forked_child_forgets_what_it_inherits() -> None:
    source = Entropy(os.urandom)
    source(12)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, source(12))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 12) != source(12)
    os.close(reading)
    os.close(writing)
