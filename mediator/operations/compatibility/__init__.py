"""Whether contracts that change can still be read, by the code of yesterday and of what yesterday's code wrote.

    can_read(schemas_of(New).reads, schemas_of(Old).writes)      # the question that all of it rests on
"""

from mediator.operations.compatibility.gaps import Gap
from mediator.operations.compatibility.reading import can_read
from mediator.operations.compatibility.rules import Direction, Level, Rule, Severity
from mediator.operations.compatibility.schemas import Schemas, schemas_of

__all__ = ["Direction", "Gap", "Level", "Rule", "Schemas", "Severity", "can_read", "schemas_of"]
