"""Words and facts that all parts share. Pure, but for files and logs."""
