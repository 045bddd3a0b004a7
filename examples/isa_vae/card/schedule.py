"""Wave after wave, while another one fits into the time that is left."""

import time
from collections.abc import Callable

import torch
from card.session import Session
from card.waves import Wave, waves
from running.process import StopRequest
from tqdm import tqdm

# How much longer a wave takes, estimated, until one of its kind is timed: with total correlations,
# as they are or of fused kernels, and in pure float32 where the others are in TF32.
HEAVY = {False: 6.0, True: 3.0}
SLOWER = 4.0
FORMAT = "{l_bar}{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]"


class TimeIsUpError(Exception):
    """A wave was ended before its last step."""


def kind_of(wave: Wave) -> object:
    """Waves of one kind take one time."""
    return wave.phase.experiment, wave.phase.arms, len(wave.seeds)


class Schedule:
    """What is left to do, and how long it takes.

    Args:
        session: Trains.
        until: When the last wave must have ended, of time.monotonic.
        wave_seconds: Of a wave of the primary arms.
        most: Waves, or as many as fit.
    """

    def __init__(
        self, session: Session, until: float, wave_seconds: float, most: int | None = None
    ) -> None:
        self.session, self.until = session, until
        self.todo = list(waves(session.planned, session.choice.width, session.finished))[:most]
        self.first = wave_seconds
        self.timed: dict[object, float] = {}  # by the arms of a wave

    def seconds(self, wave: Wave) -> float:
        """What a wave takes: as one of its kind did, or by what is known of them."""
        if (kind := kind_of(wave)) in self.timed:
            return self.timed[kind]
        choice = self.session.choice
        slower = SLOWER if choice.precision == "tf32" else 1.0
        heavy = HEAVY["compiled" in choice.engine]
        weighted = any(run.config.objective == "tcvae" for run in wave.runs[0])
        pure = wave.phase.experiment.endswith("float32")
        return self.first * (heavy if weighted else 1.0) * (slower if pure else 1.0)

    def fitting(self) -> list[Wave]:
        """Those that fit, from now on."""
        found, at = [], time.monotonic()
        for wave in self.todo:
            at += self.seconds(wave)
            if at > self.until:
                break
            found.append(wave)
        return found

    def go(self) -> int:
        """Train what fits; the number of the signal that ended it, or 0."""
        bar = tqdm(total=1, desc="runs", bar_format=FORMAT, smoothing=0, miniters=0)
        with StopRequest() as stop, bar:
            try:
                while fitting := self.fitting():
                    bar.total = round(bar.n) + sum(len(runs) for w in fitting for runs in w.runs)
                    self.begin(self.todo.pop(0), bar, stop)
            except TimeIsUpError:
                pass
            except Exception as error:  # what is trained already is to have its rows
                said = f"{type(error).__name__}: {error}"
                self.session.leave.log(f"no further wave: {said[:400]}")
        return stop.signal or 0

    def begin(self, wave: Wave, bar: tqdm, stop: StopRequest) -> None:
        """Train a wave."""
        try:
            taken = self.session.train(wave, self.teller(bar, wave, stop))
        except torch.cuda.OutOfMemoryError as error:
            self.narrow(wave, error)
        else:
            self.timed[kind_of(wave)] = taken

    def teller(self, bar: tqdm, wave: Wave, stop: StopRequest) -> Callable[[int, int], None]:
        """Moves the bar, and ends the wave at a signal or where it takes far too long."""
        done, size = bar.n, sum(map(len, wave.runs))
        late = self.until + 0.2 * self.seconds(wave)

        def tell(step: int, steps: int) -> None:
            bar.update(done + size * step / steps - bar.n)
            if stop.signal is not None or time.monotonic() > late:
                raise TimeIsUpError

        return tell

    def narrow(self, wave: Wave, error: Exception) -> None:
        """From now on a seed at a time: two did not fit the memory."""
        if len(wave.seeds) == 1:
            raise error
        session = self.session
        session.choice.width, session.prepared = 1, None
        session.choice.fall_back("waves of two seeds", error)
        session.leave.log(session.choice.notes[-1])
        torch.cuda.empty_cache()
        self.todo = [Wave(w.phase, (seed,)) for w in (wave, *self.todo) for seed in w.seeds]
        self.timed.clear()
