"""The toolkit: domain events in, integration events out, each handled once."""
