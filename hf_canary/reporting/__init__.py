"""What a measurement came to: plain data, a table, pictures."""
