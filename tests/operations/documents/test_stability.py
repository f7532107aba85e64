"""The same contracts give the same bytes: in every run, whatever Python's hashes are."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EVERYTHING = """
import json
from mediator.operations.documents.asyncapi import asyncapi_files
from mediator.operations.documents.eventcatalog import eventcatalog_files
from mediator.operations.documents.html_pages import html_pages
from mediator.operations.documents.markdown import markdown_pages
from mediator.operations.documents.schemas import json_schemas
from tests.operations.documents.languages import language, sample
makers = (asyncapi_files, eventcatalog_files, html_pages, json_schemas, markdown_pages)
print(json.dumps([[make.__name__, what.__name__, make(what())] for make in makers for what in (sample, language)]))
"""


def everything(seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING], cwd=ROOT, env=environment, check=False, capture_output=True, text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_documents_are_the_same_bytes_in_every_run() -> None:
    first, *others = (everything(seed) for seed in ("1", "2", "3"))

    assert len(first) > 100_000
    assert others == [first, first]
