"""Write the results into the README: `python examples/natural_images/images_in_short.py`.

Reads results/results.json; writes results/table.md and the text between two marks of README.md.
"""

import json
import sys
from pathlib import Path

from findings.kept import write_atomic
from findings.words import Results, table, words
from images_config import UsageError

HERE = Path(__file__).parent
RESULTS, README, TABLE = "results.json", "README.md", "table.md"
BEGIN, END = "<!-- written by images_in_short.py -->", "<!-- /written by images_in_short.py -->"


def read(folder: Path) -> Results:
    """Load the results of a run."""
    path = folder / RESULTS
    if not path.is_file():
        raise UsageError(f"{path} is missing; examples/natural_images/images.py writes it")
    found: Results = json.loads(path.read_text(encoding="utf-8"))
    return found


def with_words(text: str, results: Results) -> str:
    """Replace the text between the marks by the words and tables of the results."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UsageError(f"the README needs the lines {BEGIN} and {END}, once each")
    before, _, rest = text.partition(BEGIN)
    written = f"{words(results)}\n\n{table(results)}"
    return f"{before}{BEGIN}\n{written}\n{END}{rest.partition(END)[2]}"


def write(folder: Path = HERE) -> None:
    """Write the table and the generated part of the README."""
    results = read(folder / "results")
    text = with_words((folder / README).read_text(encoding="utf-8"), results)
    write_atomic(text.encode(), folder / README)
    write_atomic(f"{table(results)}\n".encode(), folder / "results" / TABLE)
    print(f"Written:\n  {folder / 'results' / TABLE}\n  {folder / README}, between its marks")


if __name__ == "__main__":
    try:
        write()
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
