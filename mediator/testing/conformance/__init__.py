"""The promises of the transport protocol, by chapter; `TransportSuite` has them all."""
