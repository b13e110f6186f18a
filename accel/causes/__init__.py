"""What can be wrong with a part: a file a kind.

Each offers `judge(evidence) -> Cause | None`. `sure` ranks them: 1 is proof, 0.5 what is likely.
"""
