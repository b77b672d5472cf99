"""Signals end a process at once, or when what holds them lets go."""

import os
import signal
import time

import pytest

from editable.errors import Interrupted
from editable.interruptions import StopSignals, signals


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_at_once(signum, status):
    with StopSignals().installed() as handler:
        assert StopSignals.current() is handler
        with pytest.raises(Interrupted) as interrupted:
            signal.raise_signal(signum)
    assert interrupted.value.status == status
    assert StopSignals.current() is None
    assert not isinstance(interrupted.value, Exception)


def test_held_and_passed_on_once(monkeypatch):
    passed = []
    with StopSignals().installed() as handler:
        handler.held, handler.pass_on = True, passed.append
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the same Ctrl-C, by another way
        assert handler.received == signal.SIGINT
        assert passed == [signal.SIGINT]
        monkeypatch.setattr(signals, "SECONDS_OF_ONE_TO_MANY", 0.0)
        with pytest.raises(Interrupted):  # who asks again means it
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            handler.raise_received()
    assert passed == [signal.SIGINT]


class Interrupting:
    """A signal comes while this is finalized, where Python ignores whatever is raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def work_on() -> None:
    Interrupting()
    time.sleep(10)


@pytest.mark.parametrize("earlier", [False, True])
def test_what_is_raised_where_nothing_gets_through_is_raised_behind_it(earlier, capsys):
    with StopSignals().installed() as handler:
        if earlier:  # and was lost on the way
            with pytest.raises(Interrupted):
                signal.raise_signal(signal.SIGINT)
            handler._first -= 2 * signals.SECONDS_OF_ONE
        with pytest.raises(Interrupted) as interrupted:
            work_on()
        assert interrupted.value.signum == signal.SIGINT
    assert "Interrupted" not in capsys.readouterr().err


def test_what_others_raise_where_nothing_gets_through_is_shown_as_ever(monkeypatch):
    shown = []
    monkeypatch.setattr("sys.unraisablehook", lambda ignored: shown.append(ignored.exc_type))

    class Failing:
        def __del__(self) -> None:
            raise ValueError

    with StopSignals().installed():
        Failing()
    assert shown == [ValueError]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a worker")
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 3), (signal.SIGINT, 4)])
def test_a_forked_worker_is_ended_but_not_by_a_terminal(signum, status):
    with StopSignals().installed():
        child = os.fork()
        if not child:
            try:
                signal.raise_signal(signum)
            except SystemExit:
                os._exit(3)
            finally:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process, whose handlers stay as they are left")
@pytest.mark.parametrize(("several", "status"), [(True, 2), (False, -signal.SIGTERM)])
def test_a_signal_that_comes_late_does_not_change_the_status_of_one_of_several(several, status):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with StopSignals().installed() as handler:
            handler.pass_on, handler.ending = (lambda signum: None) if several else None, True
        signal.raise_signal(signal.SIGTERM)  # another process of the run, or what watches over them
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
