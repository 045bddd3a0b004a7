"""One session on a GPU: train waves of runs and write their rows until the time is up."""

import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import FIRST_COMPLETED as FIRST
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from card.capture import ENGINES, Advance
from card.choice import Choice
from card.leave import PROTOCOL, REHEARSED, OutputFolder
from card.loop import Training
from card.mig_pool import Gaps
from card.probe import PRECISIONS
from card.stacked import Stack
from card.waves import Identity, Wave, identity_of_run
from data.pictures import Pictures
from metrics import ScoringError
from models import VAE, exponents, make_prior
from running.files import versions
from running.scoring import Measured, choose_rows, likelihood_scores, measure
from sweeps.experiments import PRIMARY, Run
from sweeps.rows import Row, make_row


@dataclass(frozen=True)
class Trained:
    """A trained run whose gaps are still being computed."""

    run: Run
    found: Measured
    gaps: "Future[dict[str, Any]]"
    history: list[dict[str, float]]
    seconds: dict[str, float]
    precision: str
    engine: str


@dataclass
class Session:
    """The device, and everything that is the same for all waves.

    Args:
        packed: The images on the device, (N, bytes).
        pictures: The same images, with their factors.
        choice: How to train.
        planned: Number of pairs in the primary comparison.
        output: Output folder that receives the rows.
        gaps: Computes the gaps.
        smaller: Settings that a rehearsal changes.
        finished: Runs that already have rows, which are not written twice.
    """

    packed: Tensor
    pictures: Pictures
    choice: Choice
    planned: int
    output: OutputFolder
    gaps: Gaps
    smaller: dict[str, int]
    finished: frozenset[Identity] = frozenset()

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self.pending: list[Trained] = []
        self.models: dict[str, tuple[Run, dict[str, Tensor]]] = {}  # by key, on the CPU
        self.prepared: tuple[object, Training, Advance] | None = None

    def on_device(self, run: Run) -> Run:
        """The run with this device and the settings of a rehearsal."""
        device = str(self.packed.device)
        return replace(run, config=replace(run.config, device=device, **self.smaller))

    def train(self, wave: Wave, report_progress: Callable[[int, int], None]) -> float:
        """Train a wave, score it on the device, and start the computation of its gaps.

        Args:
            wave: The runs.
            report_progress: Receives the number of steps issued and their total; may raise to end
                the wave.

        Returns:
            Seconds taken, without the preparation of the first wave of a kind.
        """
        runs = [[self.on_device(run) for run in of_seed] for of_seed in wave.runs]
        training, advance, precision = self.training_of(wave, runs[0])
        began = time.monotonic()
        epoch = len(self.packed) // runs[0][0].config.batch_size

        def each(step: int) -> None:
            report_progress(step, training.steps)
            if step % epoch == 0:
                self.collect()  # write rows as soon as they are complete

        training.run(advance, each)
        losses = [[training.history(k, r) for r in range(len(s))] for k, s in enumerate(runs)]
        seconds = (time.monotonic() - began) / sum(map(len, runs))
        torch.set_float32_matmul_precision("highest")  # scores are in pure float32
        for k, of_seed in enumerate(runs):
            for r, run in enumerate(of_seed):
                if identity_of_run(run) in self.finished:  # trained again only with its partner
                    continue
                self.score(run, training.stack.model(k, r), losses[k][r], seconds, precision)
        self.collect()
        return time.monotonic() - began

    def training_of(self, wave: Wave, arms: list[Run]) -> tuple[Training, Advance, str]:
        """The stack of these arms, shared by waves of one kind, reset to the first step."""
        precision = "float32" if wave.phase.experiment.endswith("float32") else None
        precision = precision or self.choice.precision
        torch.set_float32_matmul_precision(PRECISIONS[precision])
        kind = wave.phase.arms, len(wave.seeds), precision
        if self.prepared is None or self.prepared[0] != kind:
            self.prepared = None  # frees its memory
            training, advance = self.prepare(wave, arms)
            self.prepared = kind, training, advance
        _, training, advance = self.prepared
        training.reset(wave.seeds)
        return training, advance, precision

    def prepare(self, wave: Wave, arms: list[Run]) -> tuple[Training, Advance]:
        """A new stack with the chosen engine, or the next one that works."""
        names = list(ENGINES)
        for engine in names[names.index(self.choice.engine) :]:
            configs = [run.config for run in arms]
            steps = configs[0].num_steps(len(self.packed))
            training = Training(Stack(configs, wave.seeds, self.packed), steps)
            try:
                advance = ENGINES[engine](training)
            except Exception as error:  # a GPU or a compiler can raise anything
                if engine == names[-1] or isinstance(error, torch.cuda.OutOfMemoryError):
                    raise
                self.choice.fall_back(engine, error)
                self.output.log(self.choice.notes[-1])
                continue
            self.choice.engine = engine
            break
        return training, advance

    def score(
        self,
        run: Run,
        vae: VAE,
        history: list[dict[str, float]],
        seconds: float,
        precision: str,
    ) -> None:
        """Score a run on the device, except for its gaps; a run without scores has diverged."""
        began, pixels = time.monotonic(), self.pictures.pixels
        prior, rows = make_prior(run.config)(), choose_rows(len(self.packed), None, 0)
        try:
            found = measure(vae, prior, self.packed, pixels, rows, run.config.seed)
            likelihood_scores(found)
        except ScoringError as error:
            self.output.log(f"{run.key}: {error}; recorded as diverged")
            self.write_row(self.row(run, None, precision, self.choice.engine))
            return
        except Exception as error:  # affects only this run, not those beside it
            self.output.log(f"{run.key} has no row: {type(error).__name__}: {error}")
            return
        if run.experiment == "paper" and run.arm in PRIMARY:
            weights = {name: value.cpu() for name, value in vae.state_dict().items()}
            self.models[run.key] = run, weights
        spent = {"training": seconds, "scoring": time.monotonic() - began}
        gaps, made = self.gaps.submit(found), (precision, self.choice.engine)
        self.pending.append(Trained(run, found, gaps, history, spent, *made))

    def collect(self, wait: bool = False) -> None:
        """Write the rows of runs whose gaps are complete; optionally wait for all."""
        while True:
            for trained in [trained for trained in self.pending if trained.gaps.done()]:
                self.finish(trained)
            if not wait or not self.pending:
                return
            futures.wait([trained.gaps for trained in self.pending], return_when=FIRST)

    def finish(self, trained: Trained) -> None:
        """Write the row of a run; after an error it is left to a later session."""
        self.pending = [other for other in self.pending if other is not trained]
        run, made = trained.run, (trained.precision, trained.engine)
        try:
            gaps = self.gaps.result(trained.gaps, trained.found)
            self.write_row(self.row(run, self.metrics(trained, gaps), *made))
        except ScoringError as error:
            self.output.log(f"{run.key}: {error}; recorded as diverged")
            self.write_row(self.row(run, None, *made))
        except Exception as error:  # workers can raise anything
            self.output.log(f"{run.key} has no row: {type(error).__name__}: {error}")

    def metrics(self, trained: Trained, gaps: dict[str, Any]) -> dict[str, Any]:
        """Metrics in the format of `running.outputs.score`."""
        config = trained.run.config
        return {
            "evaluated": {"count": len(self.packed)},
            "steps": config.num_steps(len(self.packed)),
            "scores": {**likelihood_scores(trained.found), **gaps, "more": {}},
            "exponents": exponents(make_prior(replace(config, device="cpu"))()),
            "history": trained.history,
            "versions": versions(),
            "seconds": trained.seconds,
        }

    def row(self, run: Run, metrics: dict[str, Any] | None, precision: str, engine: str) -> Row:
        """The row of a run, with the hardware and software it was made on."""
        scores = {} if metrics is None else metrics["scores"]
        more = {key: scores[key] for key in ("factor_entropy", "widened_share") if key in scores}
        device = self.choice.device
        return make_row(run, metrics, "dsprites (drawn)") | {
            **more,
            "planned": self.planned,
            "protocol": REHEARSED if self.smaller else PROTOCOL,
            "precision": precision,
            "engine": engine,
            "card": device["card"],
            "driver": device["driver"],
        }

    def write_row(self, row: Row) -> None:
        """Write a row at once, since the session may be cut off."""
        self.output.add("run", row)
        self.rows.append(row)
