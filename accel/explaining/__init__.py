"""Where the error of a converted graph is born: its parts, each reverted alone, and what that mends."""
