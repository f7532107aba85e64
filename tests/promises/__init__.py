"""What we promise, one file per clause: proved on real files, most of it by killing real processes."""
