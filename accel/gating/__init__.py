"""The gate's parts: sequential tests, epochs of fresh processes, the evidence chain, baselines."""
