"""What people do and look at: dead letters, lineage, the wiring report. One model for every surface."""
