"""The rules of the house: who imports whom, what is public, what the distributions contain."""
