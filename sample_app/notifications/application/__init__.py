"""What customers are told of, and when."""
