"""Load a data set: from its original files if given, else rendered."""

from collections.abc import Callable

from config import Config, UsageError
from data.pictures import Pictures, default_cache, draw_dsprites, load_dsprites_npz


def load_data(config: Config, progress: bool = True) -> Pictures:
    """Load the original data set if its files are given, else render it or its stand-in."""
    load, draw = loaders(config.data_set)
    if config.data is None:
        return draw(config.cache or default_cache(), progress=progress)
    try:
        return load(config.data, progress=progress)
    except (ValueError, OSError) as error:
        raise UsageError(f"--data: {error}") from error


def loaders(data_set: str) -> tuple[Callable[..., Pictures], Callable[..., Pictures]]:
    """The functions that load a data set from its original files, and that render it."""
    if data_set == "dsprites":
        return load_dsprites_npz, draw_dsprites
    if data_set == "faces":  # imported lazily, since other sets do not need it
        from data.faces import draw_faces, load_faces_pth

        return load_faces_pth, draw_faces
    from data.cars import draw_cars, load_cars3d

    return load_cars3d, draw_cars
