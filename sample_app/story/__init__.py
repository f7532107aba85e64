"""The story: fourteen scenarios, a file each, in the order in which they are told."""

from sample_app.story.batch import BATCH
from sample_app.story.callback import CALLBACK
from sample_app.story.compensation import COMPENSATION
from sample_app.story.crash_before_acknowledgement import CRASH_BEFORE_ACKNOWLEDGEMENT
from sample_app.story.crash_before_publish import CRASH_BEFORE_PUBLISH
from sample_app.story.crash_loop import CRASH_LOOP
from sample_app.story.dead_letter import DEAD_LETTER
from sample_app.story.delay import DELAY
from sample_app.story.duplicates import DUPLICATES
from sample_app.story.happy_path import HAPPY_PATH
from sample_app.story.order_per_key import ORDER_PER_KEY
from sample_app.story.retries import RETRIES
from sample_app.story.rollback import ROLLBACK
from sample_app.story.stage import Scenario
from sample_app.story.versions import VERSIONS

__all__ = ["SCENARIOS"]

SCENARIOS: tuple[Scenario, ...] = (
    HAPPY_PATH,
    ROLLBACK,
    DUPLICATES,
    CRASH_BEFORE_PUBLISH,
    CRASH_BEFORE_ACKNOWLEDGEMENT,
    RETRIES,
    DEAD_LETTER,
    COMPENSATION,
    VERSIONS,
    ORDER_PER_KEY,
    DELAY,
    CALLBACK,
    BATCH,
    CRASH_LOOP,
)
