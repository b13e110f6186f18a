"""What benchmarks/peers.py is made of: artefacts, arms, the worker, the interleaver, the table."""
