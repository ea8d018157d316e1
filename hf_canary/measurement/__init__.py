"""What one format's estimates rest on: its encodings, references, samples and counted ranks."""
