"""From the transport to the handler: subscriptions, inbox, retries, dead letters."""
