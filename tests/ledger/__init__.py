"""The ledger: an application whose every account can be checked, run in processes that are killed.

`payments` moves money and publishes it, `books` and `reporting` write it down. Children of a fork server run it and
die at a crash point; a judge then compares, account by account, what the writers know (their journal, their tables)
with what was published and what was written down.
"""
