"""How every script here ends."""

import sys
from collections.abc import Callable

from config import UsageError
from files import no_room


def exit_status(action: Callable[[], int | None], stopped: str) -> int:
    """Do it: what it returns or 0; 2 with a message after a mistake of the user, 130 after Ctrl-C.

    Args:
        action: The script without its flags.
        stopped: What to tell after Ctrl-C or on a full disk, such as how to go on.
    """
    try:
        return action() or 0
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        if no_room(error):
            print(f"make room there, or name another place\n{stopped}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
