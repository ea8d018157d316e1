"""What a look at a model in training needs beside the measurement: when, how long, what is kept, where it goes."""
