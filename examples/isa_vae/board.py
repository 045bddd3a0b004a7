"""TensorBoard, where it was asked for."""

from pathlib import Path
from typing import Any


class Board:
    """Writes each record of the history for TensorBoard; does nothing unless wanted."""

    def __init__(self, folder: Path, step: int, wanted: bool) -> None:
        self.writer: Any = None
        if not wanted:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, record: dict[str, float]) -> None:
        """One line of the history."""
        if self.writer is not None:
            for name, value in record.items():
                if name != "step":
                    self.writer.add_scalar(name, value, int(record["step"]))

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.writer is not None:
            self.writer.close()
