"""What a model reads and writes, as JSON schemas: made exact, tidied, walked through, told in words."""
