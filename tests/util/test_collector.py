import gc
import weakref
from collections.abc import Iterator

import pytest

from publisher.util.collector import collector_paused


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave it as it was."""
    yield
    gc.enable()
    gc.unfreeze()


class Something:
    """An object that the collector looks at, and can find again."""


def collected_objects() -> list[int]:
    return [id(thing) for thing in gc.get_objects() if type(thing) is Something]


def test_what_is_made_uncollected_stays_out_of_the_collectors_sight() -> None:
    with collector_paused():
        assert not gc.isenabled()
        inside = Something()
    outside = Something()
    assert gc.isenabled()
    assert collected_objects() == [id(outside)]
    assert inside is not outside


def test_an_error_leaves_the_collector_running() -> None:
    before = gc.get_freeze_count()
    with pytest.raises(ZeroDivisionError), collector_paused():
        raise ZeroDivisionError
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_one_inside_another_does_not_wake_the_collector() -> None:
    with collector_paused():
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_nobody_holds_any_more_goes_although_it_was_made_uncollected() -> None:
    with collector_paused():
        inside = Something()
        gone = weakref.ref(inside)
    del inside
    assert gone() is None
