"""`python -m tests.ledger RUN`: one run in an interpreter of its own; RUN is a file that holds it, pickled."""

import pickle
import sys
from pathlib import Path

from tests.ledger.process import main

main(pickle.loads(Path(sys.argv[1]).read_bytes()))
