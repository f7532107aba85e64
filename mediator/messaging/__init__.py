"""What both sides and the transports share: envelopes, their wire form, the catalog of event types, lineage."""
