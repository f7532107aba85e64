"""The tests mirror the packages; `promises/` has one file per guarantee, `architecture/` guards the house itself."""
