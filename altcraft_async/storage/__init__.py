"""Where updates are kept: files that survive the process, locked and written in groups."""
