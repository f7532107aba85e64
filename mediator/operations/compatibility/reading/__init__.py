"""Whether a reader reads all that a writer writes: objects, arrays, unions and values, each against its like."""
