"""The verbs: a file each; each takes values and a folder, and returns a value."""
