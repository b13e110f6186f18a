"""The questions: a file each; they change nothing."""
