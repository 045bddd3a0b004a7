"""Train wave after wave while another one fits into the remaining time."""

import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from card.session import Session
from card.waves import Wave, waves
from running.process import StopRequest

# Estimated slowdown of a wave, until one of its kind has been timed: with total correlations,
# without or with fused kernels, and in pure float32 if the others use TF32.
HEAVY = {False: 6.0, True: 3.0}
SLOWER = 4.0
FORMAT = "{l_bar}{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]"


class TimeIsUpError(Exception):
    """A wave was stopped before its last step."""


def kind_of(wave: Wave) -> object:
    """Kind of a wave; waves of the same kind take the same time."""
    return wave.phase.experiment, wave.phase.arms, len(wave.seeds)


class Schedule:
    """The remaining waves, and how long they take.

    Args:
        session: Session that trains the waves.
        until: Time by which the last wave must end, as given by time.monotonic.
        wave_seconds: Duration of a wave of the primary arms.
        most: Maximum number of waves; by default as many as fit.
    """

    def __init__(
        self, session: Session, until: float, wave_seconds: float, most: int | None = None
    ) -> None:
        self.session, self.until = session, until
        self.todo = list(waves(session.planned, session.choice.width, session.finished))[:most]
        self.first = wave_seconds
        self.timed: dict[object, float] = {}  # measured seconds by kind of wave

    def seconds(self, wave: Wave) -> float:
        """Duration of a wave: measured for its kind, or estimated."""
        if (kind := kind_of(wave)) in self.timed:
            return self.timed[kind]
        choice = self.session.choice
        slower = SLOWER if choice.precision == "tf32" else 1.0
        heavy = HEAVY["compiled" in choice.engine]
        weighted = any(run.config.objective == "tcvae" for run in wave.runs[0])
        pure = wave.phase.experiment.endswith("float32")
        return self.first * (heavy if weighted else 1.0) * (slower if pure else 1.0)

    def fitting(self) -> list[Wave]:
        """The waves that fit into the remaining time."""
        found, at = [], time.monotonic()
        for wave in self.todo:
            at += self.seconds(wave)
            if at > self.until:
                break
            found.append(wave)
        return found

    def run(self) -> int:
        """Train the waves that fit; return the signal that ended the training, or 0."""
        bar = tqdm(total=1, desc="runs", bar_format=FORMAT, smoothing=0, miniters=0)
        with StopRequest() as stop, bar:
            try:
                while fitting := self.fitting():
                    bar.total = round(bar.n) + sum(len(runs) for w in fitting for runs in w.runs)
                    self.train_wave(self.todo.pop(0), bar, stop)
            except TimeIsUpError:
                pass
            except Exception as error:  # rows of finished runs must still be written
                message = f"{type(error).__name__}: {error}"
                self.session.output.log(f"no further wave: {message[:400]}")
        return stop.signal or 0

    def train_wave(self, wave: Wave, bar: tqdm, stop: StopRequest) -> None:
        """Train a wave."""
        try:
            seconds = self.session.train(wave, self.progress(bar, wave, stop))
        except torch.cuda.OutOfMemoryError as error:
            self.use_single_seeds(wave, error)
        else:
            self.timed[kind_of(wave)] = seconds

    def progress(self, bar: tqdm, wave: Wave, stop: StopRequest) -> Callable[[int, int], None]:
        """A callback that updates the bar, and ends the wave on a signal or when far too late."""
        done, size = bar.n, sum(map(len, wave.runs))
        late = self.until + 0.2 * self.seconds(wave)

        def report_progress(step: int, steps: int) -> None:
            bar.update(done + size * step / steps - bar.n)
            if stop.signal is not None or time.monotonic() > late:
                raise TimeIsUpError

        return report_progress

    def use_single_seeds(self, wave: Wave, error: Exception) -> None:
        """Continue with one seed per wave, since two did not fit into memory."""
        if len(wave.seeds) == 1:
            raise error
        session = self.session
        session.choice.width, session.prepared = 1, None
        session.choice.fall_back("waves of two seeds", error)
        session.output.log(session.choice.notes[-1])
        torch.cuda.empty_cache()
        self.todo = [Wave(w.phase, (seed,)) for w in (wave, *self.todo) for seed in w.seeds]
        self.timed.clear()
