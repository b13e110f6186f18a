"""The instrument: fresh processes, one clock, the machine's fingerprint."""
