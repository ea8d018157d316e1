"""What a process is and shares: several of them, time, Ctrl-C, files, random states. Knows no model."""
